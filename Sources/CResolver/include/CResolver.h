// glibc's resolver with what it finds out beside addresses: how long an answer holds.
#pragma once

#include <stdint.h>

/// Asks the servers of resolv.conf for a name's addresses, by datagrams and, where an answer is too long, by a stream.
///
/// @param family AF_INET or AF_INET6.
/// @param addresses Room for `most` addresses of 4 or 16 bytes.
/// @param seconds How long the answer holds: the least of its records, a chain of aliases included.
/// @return How many addresses there are; -1 when nobody could say, -2 when the name doesn't exist.
int cresolver_addresses(const char *name, int family, uint8_t *addresses, int most, uint32_t *seconds);
