/* devices: what the server remembers of the fleet, as a table, and of one device with its time-line. Nothing here is
 * asked of a device: all of it is what devices said when they asked.
 */
#include "cli/devices.h"

#include "cli/shown.h"
#include "cli/table.h"

#include <inttypes.h>
#include <string.h>

static const struct flag ls_flags[] = {
    { "type", FLAG_TEXT, "T", "of this type alone, such as d1_mini" },
    { "group", FLAG_TEXT, "G", "of this group" },
    { "outcome", FLAG_TEXT, "W",
      "whose last update ended so: confirmed, old-build, rolled-back, other-build, cut, reported, silent; or open, "
      "none" },
    { "reason", FLAG_TEXT, "W", "whose last check was answered so, such as up-to-date or loop-guard" },
    { "online", FLAG_SWITCH, "", "that said over MQTT that they are there" },
    COMMON_FLAGS,
};
static const struct flag plain_flags[] = { COMMON_FLAGS };

/* --- what an operator decided of a device ------------------------------------------------------------------------- */

struct words {
    char *at;
    size_t used, size;
};

/* "FIRST WORDS" behind what there is, after a comma. */
static void add_words(struct words *words, const char *first, const char *more)
{
    if (words->used < words->size) {
        words->used +=
            (size_t)snprintf(words->at + words->used, words->size - words->used, "%s%s%s%s",
                             words->used > 0 ? ", " : "", first, first[0] != '\0' && more[0] != '\0' ? " " : "", more);
    }
}

void device_policy_text(const json_t *device, char *to, size_t size)
{
    const json_t *policy = json_object_get(device, "policy"), *group;
    const json_t *assigned = json_object_get(policy, "assigned");
    struct words words = { to, 0, size };
    char as[256];
    size_t i;
    to[0] = '\0';
    if (field_true(policy, "blocked")) {
        add_words(&words, "blocked", "");
    }
    if (field_text(policy, "pin")[0] != '\0') {
        add_words(&words, "pin", field_text(policy, "pin"));
    }
    if (field_text(assigned, "type")[0] != '\0') {
        const char *label = field_text(assigned, "label");
        snprintf(as, sizeof as, "%s%s%s", field_text(assigned, "type"), label[0] != '\0' ? "/" : "", label);
        add_words(&words, "assigned", as);
    }
    if (field_true(policy, "approved")) {
        add_words(&words, "approved", "");
    }
    json_array_foreach(json_object_get(policy, "groups"), i, group)
    {
        add_words(&words, i == 0 ? "in" : "", json_is_string(group) ? json_string_value(group) : "");
    }
}

/* --- ls ----------------------------------------------------------------------------------------------------------- */

/* Whoever mistyped a type or a group is to read it. */
static void print_nobody(const struct args *args)
{
    const char *type = args_get(args, "type"), *group = args_get(args, "group");
    if (args->given_count == 1 && (type != NULL || group != NULL)) {
        printf("no device that is known here is %s ", type != NULL ? "of type" : "in group");
        shown_print(stdout, type != NULL ? type : group);
        puts(type != NULL ? "; \"updraft devices\" lists all" : "; \"updraft devices groups\" lists the groups");
        return;
    }
    puts(args->given_count > 0 ? "no such devices; \"updraft devices\" lists all"
                               : "no devices yet: each is listed when it has asked for the first time");
}

/* "confirmed", "confirmed, fs old-build" */
static void list_outcome(const json_t *device, char *text, size_t size)
{
    bool fs = json_is_object(json_object_get(device, "fs_transfer"));
    snprintf(text, size, "%s%s%s", field_text(device, "outcome"), fs ? ", fs " : "",
             fs ? field_text(device, "fs_outcome") : "");
}

static void print_devices(const struct cli *cli, const json_t *reply)
{
    static const struct table_column columns[] = {
        { "MAC", TABLE_LEFT },     { "TYPE", TABLE_LEFT },   { "VERSION", TABLE_LEFT }, { "SEEN", TABLE_RIGHT },
        { "OUTCOME", TABLE_LEFT }, { "REASON", TABLE_LEFT }, { "POLICY", TABLE_LEFT },
    };
    const json_t *devices = json_object_get(reply, "devices"), *device;
    if (json_array_size(devices) == 0) {
        print_nobody(cli->args);
        return;
    }
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    size_t i;
    json_array_foreach(devices, i, device)
    {
        char policy[1024], outcome[100], ago[SHOWN_SIZE];
        list_outcome(device, outcome, sizeof outcome);
        device_policy_text(device, policy, sizeof policy);
        table_row(table, (const char *const[]){
                             field_text(device, "mac"),
                             field_text(device, "type"),
                             field_text(device, "version"),
                             shown_ago(field_text(device, "last_seen"), ago),
                             outcome,
                             field_text(device, "reason"),
                             policy,
                         });
    }
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_ls(struct cli *cli)
{
    static const char *const filters[] = { "type", "group", "outcome", "reason" };
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, DEVICES);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        api_path_query(&path, filters[i], args_get(cli->args, filters[i]));
    }
    api_path_query(&path, "online", args_has(cli->args, "online") ? "yes" : NULL);
    enum api_result result = api_get_all(cli->api, &path, "devices", &reply);
    return cli_answer(cli, result, reply, print_devices);
}

/* --- groups ------------------------------------------------------------------------------------------------------- */

static void print_groups(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    static const struct table_column columns[] = { { "GROUP", TABLE_LEFT }, { "DEVICES", TABLE_RIGHT } };
    const json_t *groups = json_object_get(reply, "groups"), *group;
    if (json_array_size(groups) == 0) {
        puts("there are no groups; \"updraft devices group MAC +NAME\" makes one");
        return;
    }
    struct table *table = table_new(columns, 2);
    size_t i;
    json_array_foreach(groups, i, group)
    {
        char devices[24];
        snprintf(devices, sizeof devices, "%" PRIu64, field_number(group, "devices"));
        table_row(table, (const char *const[]){ field_text(group, "name"), devices });
    }
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_groups(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    api_path_begin(&path, "/api/v1/groups");
    enum api_result result = api_get_all(cli->api, &path, "groups", &reply);
    return cli_answer(cli, result, reply, print_groups);
}

/* --- show --------------------------------------------------------------------------------------------------------- */

static void print_line(const char *label, const char *text)
{
    if (text[0] != '\0') {
        printf("%-10s", label);
        shown_wrapped(stdout, text, 10, 10, shown_width(stdout));
        putchar('\n');
    }
}

static void print_build(const json_t *device)
{
    static const struct {
        const char *first, *member;
    } facts[] = { { "", "version" }, { "md5", "md5" }, { "file system", "fs_version" }, { "SDK", "sdk" } };
    char text[512] = "";
    struct words words = { text, 0, sizeof text };
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (field_text(device, facts[i].member)[0] != '\0') {
            add_words(&words, facts[i].first, field_text(device, facts[i].member));
        }
    }
    print_line("runs", text);
}

static void print_chip(const json_t *device)
{
    static const struct {
        const char *member, *words;
    } sizes[] = { { "flash_bytes", "of flash" }, { "free_bytes", "free for an update" } };
    char text[512] = "", room[SHOWN_SIZE];
    struct words words = { text, 0, sizeof text };
    const char *const members[] = { "chip", "client", "flash_mode" }, *const first[] = { "", "", "flash mode" };
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        const char *value = field_text(device, members[i]);
        if (value[0] != '\0' && strcmp(value, "plain") != 0) { /* plain: it names no updater, or has not asked yet */
            add_words(&words, first[i], value);
        }
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (field_number(device, sizes[i].member) > 0) {
            add_words(&words, shown_bytes(field_number(device, sizes[i].member), room), sizes[i].words);
        }
    }
    print_line("hardware", text);
}

static void print_seen(const json_t *device)
{
    char text[512], ago[SHOWN_SIZE];
    const json_t *online = json_object_get(device, "online");
    const char *first = field_text(device, "first_seen"), *last = field_text(device, "last_seen");
    if (last[0] == '\0') {
        print_line("seen", json_is_true(online)    ? "it has not asked yet; online (MQTT)"
                           : json_is_false(online) ? "it has not asked yet; offline (MQTT)"
                                                   : "never");
        return;
    }
    snprintf(text, sizeof text, "%s (%s), first %s%s", shown_ago(last, ago), last, first,
             json_is_true(online)    ? ", online"
             : json_is_false(online) ? ", offline"
                                     : "");
    print_line("seen", text);
    snprintf(text, sizeof text, "%s%s", field_text(device, "address"),
             field_true(device, "via_proxy") ? ", through a proxy" : "");
    print_line("address", text);
    snprintf(text, sizeof text, "%s (%s)", field_text(device, "reason"), field_text(device, "reason_mode"));
    print_line("answered", text);
}

/* Of a sketch in two lines, of a file system, which few were sent, in one. */
static void print_outcome(const json_t *device, bool fs)
{
    char sent[300] = "", outcome[100], both[402], a[SHOWN_SIZE], b[SHOWN_SIZE];
    const json_t *transfer = json_object_get(device, fs ? "fs_transfer" : "transfer");
    uint64_t failures = field_number(device, fs ? "fs_failures" : "failures");
    if (json_is_object(transfer)) {
        snprintf(sent, sizeof sent, "%s (%s), %s of %s in %.1f s, %s", field_text(transfer, "version"),
                 field_text(transfer, "mode"), shown_bytes(field_number(transfer, "bytes"), a),
                 shown_bytes(field_number(transfer, "of"), b), field_real(transfer, "ms") / 1000,
                 field_text(transfer, "at"));
    } else if (fs) {
        return;
    }
    snprintf(outcome, sizeof outcome, "%s%s%s", field_text(device, fs ? "fs_outcome" : "outcome"),
             failures > 0 ? ", " : "", failures > 0 ? shown_count(failures, "failure", a) : "");
    if (fs) {
        snprintf(both, sizeof both, "%s: %s", sent, outcome);
        print_line("fs", both);
        return;
    }
    print_line("sent", sent);
    print_line("outcome", outcome);
}

static void print_standing(const json_t *device)
{
    char text[1024], room[SHOWN_SIZE];
    const json_t *policy = json_object_get(device, "policy"), *one;
    size_t i;
    device_policy_text(device, text, sizeof text);
    print_line("policy", text);
    print_line("note", field_text(policy, "note"));
    json_array_foreach(json_object_get(device, "never_again"), i, one)
    {
        uint64_t failures = field_number(one, "failures");
        bool went_back = field_true(one, "rolled_back");
        const char *version = field_text(one, "version"), *file = field_text(one, "file");
        snprintf(text, sizeof text, "%s%s%s%smd5 %s, %s, %s%s", version, version[0] != '\0' ? ", " : "", file,
                 file[0] != '\0' ? ", " : "", field_text(one, "md5"),
                 went_back ? "it rolled back from it" : shown_count(failures, "failure", room), field_text(one, "at"),
                 went_back || failures > 1 ? ": not offered again" : "");
        print_line(i == 0 ? "failed" : "", text);
    }
    json_array_foreach(json_object_get(device, "rollouts"), i, one)
    {
        const char *version = field_text(one, "version"), *why = field_text(one, "why");
        snprintf(text, sizeof text, "%s%s%s %s: it is %s%s%s", field_text(one, "id"), version[0] != '\0' ? ", " : "",
                 version, field_text(one, "state"), field_text(one, "member"), why[0] != '\0' ? ": " : "", why);
        print_line(i == 0 ? "rollouts" : "", text);
    }
}

static void print_device(const struct cli *cli, const json_t *device)
{
    (void)cli;
    static const struct table_column columns[] = { { "AT", TABLE_LEFT }, { "WHAT", TABLE_LEFT }, { "", TABLE_LEFT } };
    const json_t *events = json_object_get(device, "events"), *event;
    size_t i;
    print_line("device", field_text(device, "mac"));
    print_line("type", field_text(device, "type"));
    print_build(device);
    print_chip(device);
    print_seen(device);
    print_outcome(device, false);
    print_outcome(device, true);
    print_standing(device);
    print_line("kept", field_text(device, "kept"));
    print_line("time-line", field_text(device, "events_why"));
    if (json_array_size(events) == 0) {
        return;
    }
    struct table *table = table_new(columns, sizeof columns / sizeof columns[0]);
    json_array_foreach(events, i, event)
    {
        table_row(table, (const char *const[]){ field_text(event, "at"), field_text(event, "word"),
                                                field_text(event, "text") });
    }
    putchar('\n');
    table_print(table, stdout);
    table_free(table);
}

static enum cli_exit run_show(struct cli *cli)
{
    struct api_path path;
    json_t *reply = NULL;
    if (!device_path(cli, &path)) {
        return CLI_USAGE;
    }
    enum api_result result = api_call(cli->api, "GET", &path, NULL, &reply);
    return cli_answer(cli, result, reply, print_device);
}

bool device_path(const struct cli *cli, struct api_path *path)
{
    char mac[ARGS_MAC_SIZE], message[256];
    if (!args_mac(cli->args->words[0], mac)) {
        snprintf(message, sizeof message, "MAC: \"%.64s\" is not usable: " ARGS_MAC_HELP, cli->args->words[0]);
        shown_problem(cli->program, message, "");
        return false;
    }
    api_path_begin(path, DEVICES);
    api_path_name(path, mac);
    return true;
}

const struct verb verb_devices_ls = {
    .name = "devices",
    .sub = "ls",
    .words = "",
    .flags = ls_flags,
    .summary = "list the devices, in the order in which the server met them",
    .more = "After a restart those written down come first, in the order in which they are read.",
    .run = run_ls,
};
const struct verb verb_devices_show = {
    .name = "devices",
    .sub = "show",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "show one: what it said, what was decided, and its time-line",
    .more = "",
    .run = run_show,
};
const struct verb verb_devices_groups = {
    .name = "devices",
    .sub = "groups",
    .words = "",
    .flags = plain_flags,
    .summary = "list the groups, and how many devices are in each",
    .more = "",
    .run = run_groups,
};
