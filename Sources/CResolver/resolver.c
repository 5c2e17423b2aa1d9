#include "CResolver.h"

#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <string.h>
#include <sys/socket.h>

int cresolver_addresses(const char *name, int family, uint8_t *addresses, int most, uint32_t *seconds) {
    unsigned char answer[65536];
    int type = family == AF_INET6 ? ns_t_aaaa : ns_t_a;
    int size = family == AF_INET6 ? 16 : 4;
    *seconds = 0;
    int length = res_query(name, ns_c_in, type, answer, sizeof answer);
    if (length < 0) return h_errno == HOST_NOT_FOUND ? -2 : h_errno == NO_DATA ? 0 : -1;
    ns_msg message;
    if (length > (int)sizeof answer || ns_initparse(answer, length, &message) != 0) return -1;
    int count = 0;
    uint32_t least = UINT32_MAX;
    for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
        ns_rr record;
        if (ns_parserr(&message, ns_s_an, i, &record) != 0) return -1;
        if (ns_rr_ttl(record) < least) least = ns_rr_ttl(record);
        if (ns_rr_type(record) != type || ns_rr_rdlen(record) != size || count == most) continue;
        memcpy(addresses + count * size, ns_rr_rdata(record), size);
        count++;
    }
    *seconds = least == UINT32_MAX ? 0 : least;
    return count;
}
