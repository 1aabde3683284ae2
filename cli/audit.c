/* audit: what operators did, as the server noted it. */
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verb.h"

#include <inttypes.h>
#include <string.h>

static const struct flag flags[] = {
    { "since", FLAG_SPAN, "TIME", "no longer ago than this, such as 12h or 30d" },
    { "limit", FLAG_PAGE, "N", "the newest so many, at most 1000 (default: 100)" },
    { "offset", FLAG_FEW, "N", "leave the newest so many out" },
    COMMON_FLAGS,
};

static void who_text(const json_t *act, char *to, size_t size)
{
    const char *token = field_text(act, "token"), *user = field_text(act, "user");
    if (token[0] != '\0') {
        snprintf(to, size, "%s (%s)", token, field_text(act, "role"));
    } else if (user[0] != '\0') {
        snprintf(to, size, "%s (uid %" PRIu64 ")", user, field_number(act, "uid"));
    } else if (json_is_integer(json_object_get(act, "uid"))) {
        snprintf(to, size, "uid %" PRIu64, field_number(act, "uid"));
    } else {
        snprintf(to, size, "not known");
    }
}

static void result_text(const json_t *act, char *to, size_t size)
{
    const char *result = field_text(act, "result");
    if (strcmp(result, "done") == 0) {
        snprintf(to, size, "done");
    } else {
        snprintf(to, size, "%s: %" PRIu64 " %s", result, field_number(act, "status"), field_text(act, "code"));
    }
}

/* What was ordered, and why it was not done; and how much before it has no line. */
static void note_text(const json_t *act, char *to, size_t size)
{
    const char *order = field_text(act, "order"), *why = field_text(act, "why");
    uint64_t unsaid = field_number(act, "unsaid");
    int used = snprintf(to, size, "%.1100s%s%.400s", order, order[0] != '\0' && why[0] != '\0' ? ": " : "", why);
    if (unsaid > 0) {
        snprintf(to + used, size - (size_t)used, "%s(before it %" PRIu64 " refusals more)", used > 0 ? " " : "",
                 unsaid);
    }
}

/* The newest last, as a log is read. */
static void print_acts(const struct cli *cli, const json_t *reply)
{
    static const struct table_column columns[] = {
        { "TIME", TABLE_LEFT }, { "WHO", TABLE_LEFT },    { "FROM", TABLE_LEFT },
        { "ACT", TABLE_LEFT },  { "OBJECT", TABLE_LEFT }, { "RESULT", TABLE_LEFT },
    };
    const json_t *acts = json_object_get(reply, "acts");
    size_t count = json_array_size(acts);
    if (count == 0) {
        puts(args_has(cli->args, "since") ? "nothing was noted in that time" : "nothing is noted");
        return;
    }
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    for (size_t i = count; i > 0; i--) {
        const json_t *act = json_array_get(acts, i - 1);
        char who[400], result[200], note[1600];
        who_text(act, who, sizeof who);
        result_text(act, result, sizeof result);
        table_row(table, (const char *const[]){ field_text(act, "time"), who, field_text(act, "from"),
                                                field_text(act, "act"), field_text(act, "object"), result });
        note_text(act, note, sizeof note);
        table_note(table, note);
    }
    table_print(table, stdout);
    table_free(table);
    if (field_true(reply, "more")) {
        shown_note("note", "there are older ones: --limit, --offset");
    }
}

static enum cli_exit run(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, "/api/v1/audit");
    api_path_query(&path, "within_s", args_get(cli->args, "since"));
    api_path_query(&path, "limit", args_get(cli->args, "limit"));
    api_path_query(&path, "offset", args_get(cli->args, "offset"));
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_acts);
}

const struct verb verb_audit = {
    .name = "audit",
    .words = "",
    .flags = flags,
    .summary = "list what operators did, and what they were refused",
    .more = "",
    .run = run,
};
