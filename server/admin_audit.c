/* The audit log, read. Files are read by a worker thread, one request at a time: each may have to look at all of them.
 */
#include "server/admin_parts.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE_MAX     1000
#define PAGE_DEFAULT 100
#define WITHIN_MAX   (100ull * 366 * 86400)

struct audit_reading {
    struct admin_api *api;
    struct http_later *later;
};

static void on_read(void *owner, json_t *found)
{
    struct audit_reading *reading = owner;
    struct http_answer answer = { .status = 0 };
    if (found != NULL) {
        admin_answer(&answer, 200, found);
    } else {
        admin_refuse(&answer, 503, "busy", "come again in a moment", "the audit log cannot be read: out of memory");
    }
    admin_answer_later(reading->api, reading->later, &answer);
    free(reading);
}

void admin_get_audit(struct admin_call *call)
{
    struct admin_api *api = call->api;
    uint64_t within_s = 0, offset = 0, limit = PAGE_DEFAULT;
    bool within = false;
    const struct admin_parameter parameters[] = {
        { "within_s", ADMIN_NUMBER, &within_s, WITHIN_MAX, &within },
        { "offset", ADMIN_NUMBER, &offset, UINT32_MAX, NULL },
        { "limit", ADMIN_NUMBER, &limit, PAGE_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        return;
    }
    char since[AUDIT_SINCE_SIZE] = "";
    time_t since_s = time(NULL) - (time_t)within_s;
    struct tm utc;
    if (within && since_s > 0 && gmtime_r(&since_s, &utc) != NULL) {
        strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    struct audit_page page = { since, (size_t)offset, (size_t)limit };
    struct audit_reading *reading = calloc(1, sizeof *reading);
    assert(reading != NULL);
    reading->api = api;
    if (api->audit == NULL || !audit_read(api->audit, &page, on_read, reading)) {
        free(reading);
        admin_refuse(call->answer, 503, "busy", "come again in a moment", "the audit log is being read for another");
        return;
    }
    reading->later = call->answer->later = http_later_new();
}
