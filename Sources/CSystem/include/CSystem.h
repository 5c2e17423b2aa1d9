// What Swift can't reach in glibc or the kernel: GNU extensions that its module map hides, variadic calls, and what
// must happen before Swift runs.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// The name of an errno value, such as "ENOENT"; NULL for an unknown one. A GNU extension.
const char *csystem_errno_name(int code);

/// copy_file_range(2). A GNU extension.
ssize_t csystem_copy_file_range(int from, off_t *from_offset, int to, off_t *to_offset, size_t count);

/// mkostemp(3) with O_CLOEXEC. A GNU extension.
int csystem_make_temporary_file(char *path_template);

/// lseek(2)'s SEEK_DATA and SEEK_HOLE. GNU extensions.
static const int csystem_seek_data = 3;
static const int csystem_seek_hole = 4;
