/* rollouts: those that the server remembers, who has what in one, and an operator's word to it.
 */
#include "cli/follow.h"
#include "cli/rollout_named.h"
#include "cli/shown.h"
#include "cli/table.h"
#include "cli/verb.h"

#include <inttypes.h>
#include <string.h>

#define MEMBERS_SHOWN 20 /* of each state; --state lists all of one */

static const struct flag plain_flags[] = { COMMON_FLAGS };

/* --- ls ----------------------------------------------------------------------------------------------------------- */

static void add_rollout(struct table *table, const json_t *rollout)
{
    struct progress progress;
    char confirmed[48], failed[24], silent[24], skipped[24], note[700], ago[SHOWN_SIZE];
    follow_read(rollout, &progress);
    snprintf(confirmed, sizeof confirmed, "%" PRIu64 "/%" PRIu64, progress.devices[COUNT_CONFIRMED],
             progress_devices(&progress));
    snprintf(failed, sizeof failed, "%" PRIu64, progress.devices[COUNT_FAILED]);
    snprintf(silent, sizeof silent, "%" PRIu64, progress.devices[COUNT_SILENT]);
    snprintf(skipped, sizeof skipped, "%" PRIu64, progress.devices[COUNT_SKIPPED]);
    table_row(table, (const char *const[]){
                         field_text(rollout, "id"),
                         field_text(rollout, "type"),
                         field_text(rollout, "version"),
                         strcmp(field_text(rollout, "mode"), "fs") == 0 ? "fs" : "sketch",
                         field_text(rollout, "state"),
                         confirmed,
                         failed,
                         silent,
                         skipped,
                         shown_ago(field_text(rollout, "created"), ago),
                     });
    const char *why = field_text(rollout, "why");
    snprintf(note, sizeof note, "%s%s%s%s", why, why[0] != '\0' && progress.skipped_why[0] != '\0' ? "; " : "",
             progress.skipped_why[0] != '\0' ? "skipped: " : "", progress.skipped_why);
    table_note(table, note);
}

static void print_rollouts(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    static const struct table_column columns[] = {
        { "ID", TABLE_LEFT },       { "TYPE", TABLE_LEFT },       { "VERSION", TABLE_LEFT }, { "MODE", TABLE_LEFT },
        { "STATE", TABLE_LEFT },    { "CONFIRMED", TABLE_RIGHT }, { "FAILED", TABLE_RIGHT }, { "SILENT", TABLE_RIGHT },
        { "SKIPPED", TABLE_RIGHT }, { "BEGUN", TABLE_RIGHT },
    };
    const json_t *rollouts = json_object_get(reply, "rollouts"), *rollout;
    if (json_array_size(rollouts) == 0) {
        puts("there are no rollouts; \"publish-update TYPE\" begins one");
        return;
    }
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    size_t i;
    json_array_foreach(rollouts, i, rollout)
    {
        add_rollout(table, rollout);
    }
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_ls(struct cli *cli)
{
    json_t *reply = NULL;
    enum api_result result = rollouts_ask_all(cli, &reply);
    return cli_answer(cli, result, reply, print_rollouts);
}

/* --- show --------------------------------------------------------------------------------------------------------- */

static const struct flag show_flags[] = {
    { "state", FLAG_CHOICE, "queued|triggered|downloading|flashed|confirmed|failed|silent|skipped",
      "list all its devices in this state (else the first 20 of each)" },
    COMMON_FLAGS,
};

static void print_line(const char *label, const char *text)
{
    if (text[0] != '\0') {
        printf("%-10s", label);
        shown_wrapped(stdout, text, 10, 10, shown_width(stdout));
        putchar('\n');
    }
}

/* "120 devices, of the group kitchen, 10 %, 5 of them first, halts above 20 % failures" */
static void print_order(const json_t *order)
{
    char text[512];
    size_t used =
        (size_t)snprintf(text, sizeof text, "halts above %" PRIu64 " %% failures", field_number(order, "max_failures"));
    if (field_number(order, "to_count") > 0) {
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "; %" PRIu64 " named", field_number(order, "to_count"));
    }
    if (field_text(order, "group")[0] != '\0') {
        used += (size_t)snprintf(text + used, sizeof text - used, "; the group %.128s", field_text(order, "group"));
    }
    if (field_number(order, "percent") < 100) {
        used += (size_t)snprintf(text + used, sizeof text - used, "; %" PRIu64 " %%", field_number(order, "percent"));
    }
    if (field_number(order, "canary") > 0) {
        snprintf(text + used, sizeof text - used, "; %" PRIu64 " first", field_number(order, "canary"));
    }
    print_line("order", text);
}

/* "17 of 32 at once (adaptive); 3 of 5 canaries confirmed; about 2 min left" */
static void print_pace(const struct progress *progress)
{
    char text[256], room[SHOWN_SIZE];
    size_t used = (size_t)snprintf(text, sizeof text, "%" PRIu64 " of %" PRIu64 " at once%s", progress->in_flight,
                                   progress->window, progress->adaptive ? " (adaptive)" : "");
    if (progress->canaries > 0) {
        used += (size_t)snprintf(text + used, sizeof text - used, "; %" PRIu64 " of %" PRIu64 " canaries confirmed",
                                 progress->canaries_confirmed, progress->canaries);
    }
    if (progress->seconds_left >= 0) {
        snprintf(text + used, sizeof text - used, "; about %s left", shown_age((uint64_t)progress->seconds_left, room));
    }
    print_line("pace", progress_is_over(progress) ? "" : text);
}

static void print_facts(const json_t *rollout)
{
    static const char *const members[] = { "file", "bytes", "md5", NULL };
    struct progress progress;
    char text[2600], a[SHOWN_SIZE], b[SHOWN_SIZE];
    follow_read(rollout, &progress);
    snprintf(text, sizeof text, "%s, %s %s (%s)", progress.id, progress.type, progress.version,
             field_text(rollout, "mode"));
    print_line("rollout", text);
    bool over = progress_is_over(&progress);
    snprintf(text, sizeof text, "%s%s%s%s%s", progress.state, over ? " after " : "",
             over ? shown_age((uint64_t)progress.elapsed_s, a) : "", progress.why[0] != '\0' ? ": " : "", progress.why);
    print_line("state", text);
    snprintf(text, sizeof text, "%s (%s)", shown_ago(field_text(rollout, "created"), a),
             field_text(rollout, "created"));
    print_line("begun", text);
    print_line("follows", field_text(rollout, "supersedes"));
    cli_image_text(json_object_get(rollout, "image"), members, text, sizeof text);
    print_line("image", text);
    print_order(json_object_get(rollout, "order"));
    print_pace(&progress);
    snprintf(text, sizeof text, "%s of %s", shown_bytes(progress.bytes, a), shown_bytes(progress.bytes_expected, b));
    print_line("bytes", text);
    if (!progress_counts(&progress, text, sizeof text)) {
        snprintf(text, sizeof text, "none yet");
    }
    print_line("devices", text);
}

static size_t add_members(struct table *table, const json_t *devices)
{
    const json_t *device;
    size_t i;
    json_array_foreach(devices, i, device)
    {
        char attempts[24], ago[SHOWN_SIZE];
        snprintf(attempts, sizeof attempts, "%" PRIu64, field_number(device, "attempts"));
        table_row(table, (const char *const[]){
                             field_text(device, "mac"),
                             field_text(device, "state"),
                             attempts,
                             shown_ago(field_text(device, "at"), ago),
                             field_true(device, "canary") ? "canary" : "",
                             field_text(device, "why"),
                         });
    }
    return json_array_size(devices);
}

/* The devices of a state, at most so many (0 = all), as rows. Returns how many rows. */
static enum api_result add_state(struct cli *cli, const struct api_path *rollout, const char *state, size_t most,
                                 struct table *table, size_t *rows)
{
    struct api_path path = *rollout;
    char limit[24];
    json_t *reply = NULL;
    api_path_query(&path, "devices", "yes");
    api_path_query(&path, "state", state);
    if (most > 0) {
        snprintf(limit, sizeof limit, "%zu", most);
        api_path_query(&path, "limit", limit);
    }
    enum api_result result =
        most > 0 ? api_call(cli->api, "GET", &path, NULL, &reply) : api_get_all(cli->api, &path, "device_list", &reply);
    if (result == API_DONE) {
        *rows = add_members(table, json_object_get(reply, "device_list"));
        json_decref(reply);
    }
    return result;
}

/* What went wrong and what goes on first; of the many that wait, last. */
static const enum progress_count members_order[PROGRESS_COUNTS] = {
    COUNT_FAILED, COUNT_DOWNLOADING, COUNT_FLASHED, COUNT_TRIGGERED,
    COUNT_SILENT, COUNT_CONFIRMED,   COUNT_SKIPPED, COUNT_QUEUED,
};

/* State by state, so that of a large fleet only as much is asked for as is shown. */
static enum cli_exit print_members(struct cli *cli, const struct api_path *path, const json_t *rollout)
{
    static const struct table_column columns[] = { { "MAC", TABLE_LEFT },    { "STATE", TABLE_LEFT },
                                                   { "TRIES", TABLE_RIGHT }, { "CHANGED", TABLE_RIGHT },
                                                   { "CANARY", TABLE_LEFT }, { "WHY", TABLE_LEFT } };
    const char *wanted = args_get(cli->args, "state");
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    struct progress progress;
    enum api_result result = API_DONE;
    size_t all = 0;
    follow_read(rollout, &progress);
    for (size_t i = 0; result == API_DONE && i < PROGRESS_COUNTS; i++) {
        enum progress_count count = members_order[i];
        const char *state = progress_word(count);
        size_t rows = 0;
        if (progress.devices[count] == 0 || (wanted != NULL && strcmp(wanted, state) != 0)) {
            continue;
        }
        result = add_state(cli, path, state, wanted != NULL ? 0 : MEMBERS_SHOWN, table, &rows);
        if (rows > 0 && progress.devices[count] > rows) {
            char more[96];
            snprintf(more, sizeof more, "and %" PRIu64 " more%s%s", progress.devices[count] - rows,
                     wanted == NULL && rows == MEMBERS_SHOWN ? ": --state " : "",
                     wanted == NULL && rows == MEMBERS_SHOWN ? state : "");
            table_note(table, more);
        }
        all += rows;
    }
    if (all > 0) {
        putchar('\n');
        table_print(table, stdout);
    }
    table_free(table);
    return result == API_DONE ? CLI_DONE : cli_refused(cli, result);
}

/* All members, or those of one state, in one document. */
static enum cli_exit print_whole(struct cli *cli, const struct api_path *rollout)
{
    struct api_path path = *rollout;
    json_t *reply = NULL;
    const char *state = args_get(cli->args, "state");
    api_path_query(&path, "devices", "yes");
    api_path_query(&path, "state", state);
    enum api_result result = api_get_all(cli->api, &path, "device_list", &reply);
    if (result == API_DONE) { /* the first page's "unlisted" came in the next */
        uint64_t all = field_number(json_object_get(reply, "devices"), state != NULL ? state : "members");
        size_t listed = json_array_size(json_object_get(reply, "device_list"));
        json_object_set_new(reply, "unlisted", json_integer((json_int_t)(all > listed ? all - listed : 0)));
    }
    return cli_answer(cli, result, reply, NULL);
}

static enum cli_exit run_show(struct cli *cli)
{
    struct api_path path;
    enum cli_exit code = CLI_FAILED;
    json_t *reply = NULL;
    if (!rollout_find_path(cli, true, &path, &code)) {
        return code;
    }
    if (cli->json) {
        return print_whole(cli, &path);
    }
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    if (result != API_DONE) {
        return cli_refused(cli, result);
    }
    print_facts(reply);
    cli_print_notes(reply, 0);
    code = print_members(cli, &path, reply);
    json_decref(reply);
    return code;
}

/* --- an operator's word ------------------------------------------------------------------------------------------- */

static void print_changed(const struct cli *cli, const json_t *rollout)
{
    (void)cli;
    struct progress progress;
    char line[1024];
    follow_read(rollout, &progress);
    progress_line(&progress, line, sizeof line);
    printf("%s is %s; %s\n", progress.id, progress.state, line); /* escaped already */
}

static enum cli_exit change(struct cli *cli, const char *word)
{
    struct api_path path;
    enum cli_exit code = CLI_FAILED;
    json_t *body = must(json_object());
    const char *why = args_get(cli->args, "why");
    if (why != NULL && json_object_set_new(body, "why", json_string(why)) != 0) {
        shown_problem(cli->program, "--why is not valid UTF-8", "say it in other letters");
        code = CLI_USAGE;
    } else if (rollout_find_path(cli, false, &path, &code)) {
        api_path_name(&path, word);
        code = cli_change(cli, "POST", &path, body, print_changed);
    }
    json_decref(body);
    return code;
}

static enum cli_exit run_pause(struct cli *cli)
{
    return change(cli, "pause");
}

static enum cli_exit run_resume(struct cli *cli)
{
    return change(cli, "resume");
}

static enum cli_exit run_abort(struct cli *cli)
{
    return change(cli, "abort");
}

/* --- the verbs ---------------------------------------------------------------------------------------------------- */

#define NAMING "ID may be the beginning of an id, or a type of which one rollout is under way. "

static const struct flag abort_flags[] = {
    { "why", FLAG_TEXT, "TEXT", "what to tell whoever asks later" },
    COMMON_FLAGS,
};

const struct verb verb_rollouts_ls = {
    .name = "rollouts",
    .sub = "ls",
    .words = "",
    .flags = plain_flags,
    .summary = "list the rollouts, the newest first",
    .more = "",
    .run = run_ls,
};
const struct verb verb_rollouts_show = {
    .name = "rollouts",
    .sub = "show",
    .words = "ID",
    .words_min = 1,
    .words_max = 1,
    .flags = show_flags,
    .summary = "show one, and its devices by state",
    .more = NAMING "Where none is, the last of the type is shown.",
    .run = run_show,
};
const struct verb verb_rollouts_pause = {
    .name = "rollouts",
    .sub = "pause",
    .words = "ID",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "let no further device begin",
    .more = NAMING "What is under way ends as it would.",
    .run = run_pause,
};
const struct verb verb_rollouts_resume = {
    .name = "rollouts",
    .sub = "resume",
    .words = "ID",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "let one go on that was paused, or halted by itself",
    .more = NAMING "Failures up to now are forgiven: it halts again when further ones are too many.",
    .run = run_resume,
};
const struct verb verb_rollouts_abort = {
    .name = "rollouts",
    .sub = "abort",
    .words = "ID",
    .words_min = 1,
    .words_max = 1,
    .flags = abort_flags,
    .summary = "end one for good",
    .more = NAMING "Its image is kept from devices that do not have it, until it is published again.",
    .run = run_abort,
};
