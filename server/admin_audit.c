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
    uv_work_t work;
    struct admin_api *api;
    struct http_later *later;
    struct audit_page page;
    char since[32];
    json_t *found;
};

static void on_work(uv_work_t *work)
{
    struct audit_reading *reading = work->data;
    reading->found = audit_file_read(audit_file_of(reading->api->audit), &reading->page);
}

static void on_read(uv_work_t *work, int error)
{
    struct audit_reading *reading = work->data;
    struct http_answer answer = { .status = 0 };
    reading->api->audit_is_read = false;
    if (error == 0 && reading->found != NULL) {
        admin_answer(&answer, 200, reading->found);
    } else {
        admin_refuse(&answer, 503, "busy", "come again in a moment", "the audit log could not be read");
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
    if (api->audit == NULL || api->audit_is_read || api->closing) {
        admin_refuse(call->answer, 503, "busy", "come again in a moment", "the audit log is being read for another");
        return;
    }
    struct audit_reading *reading = calloc(1, sizeof *reading);
    assert(reading != NULL);
    reading->work.data = reading;
    reading->api = api;
    reading->page = (struct audit_page){ reading->since, (size_t)offset, (size_t)limit };
    time_t since_s = time(NULL) - (time_t)within_s;
    struct tm utc;
    if (within && since_s > 0 && gmtime_r(&since_s, &utc) != NULL) {
        strftime(reading->since, sizeof reading->since, "%Y-%m-%dT%H:%M:%SZ", &utc);
    }
    if (uv_queue_work(api->loop, &reading->work, on_work, on_read) != 0) {
        free(reading);
        admin_refuse(call->answer, 503, "busy", "come again in a moment", "the audit log cannot be read now");
        return;
    }
    api->audit_is_read = true;
    reading->later = call->answer->later = http_later_new();
}
