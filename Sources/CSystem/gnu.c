#define _GNU_SOURCE
#include "CSystem.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *csystem_errno_name(int code) { return strerrorname_np(code); }

ssize_t csystem_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count) {
    return copy_file_range(from, from_offset, to, to_offset, count, 0);
}

int csystem_make_temporary_file(char *path_template) { return mkostemp(path_template, O_CLOEXEC); }

int csystem_new_network(void) { return unshare(CLONE_NEWNET); }

int csystem_enter_namespace(int namespace) { return setns(namespace, 0); }
