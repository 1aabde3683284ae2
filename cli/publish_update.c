/* publish-update: asks the server to tell a type's devices, then watches. The server decides and publishes. */
#include "base/text.h"
#include "cli/follow.h"
#include "cli/shown.h"
#include "cli/verb.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SHOWN    6 /* devices that a plan names */
#define MESSAGES_SHOWN 3

static const struct flag flags[] = {
    { "version", FLAG_TEXT, "V", "this version, also an older one, such as 0.4.9 (default: the newest)" },
    { "mode", FLAG_CHOICE, "sketch|fs", "what is updated: the sketch (default) or the file system" },
    { "to", FLAG_MACS, "MAC,...",
      "these devices alone, such as 5c:cf:7f:b1:e0:42,5ccf7fb1e043 (default: all of the type)" },
    { "group", FLAG_TEXT, "G", "its members alone, such as kitchen" },
    { "percent", FLAG_PERCENT, "P", "so many of them, such as 10% (default: all)" },
    { "canary", FLAG_FEW, "N",
      "N devices first, and the rest when each of them is back with the new build (default: 0)" },
    { "in-flight", FLAG_MANY, "N",
      "at most N devices at once, between being told and being back (default: as many as the network carries)" },
    { "max-failures", FLAG_SHARE, "P%",
      "halt when more than this part of those finished has failed (default: as the server is configured, 20%)" },
    { "timeout", FLAG_TIMEOUT, "S",
      "how long the broker may be away, and then how long nothing may be heard of devices: seconds, or 90s, 5m, 1h; "
      "from 1s to 24h (default: 5m)" },
    { "window", FLAG_SECONDS, "S",
      "each device waits a random time up to this before it asks: seconds, or 90s, 5m, 1h; up to 24h (default: 0)" },
    { "plan", FLAG_SWITCH, "", "say what would happen; publish nothing" },
    { "no-wait", FLAG_SWITCH, "", "do not watch: print the rollout's id and state, and end" },
    COMMON_FLAGS,
};

static void set_number(json_t *order, const char *key, const char *number)
{
    if (number != NULL) {
        json_object_set_new(order, key, json_integer(strtoll(number, NULL, 10)));
    }
}

static json_t *mac_array(const char *macs)
{
    json_t *array = must(json_array());
    for (const char *at = macs; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        json_array_append_new(array, json_stringn(at, strcspn(at, ",")));
    }
    return array;
}

/* A text that is not UTF-8 cannot be said in JSON; the server would refuse it too. */
static bool set_text(json_t *order, const char *key, const char *text)
{
    return text == NULL || json_object_set_new(order, key, json_string(text)) == 0;
}

/* The body of the request; NULL where a word is no text. */
static json_t *make_order(const struct args *args)
{
    static const struct {
        const char *flag, *member;
    } numbers[] = {
        { "percent", "percent" },           { "canary", "canary" },   { "in-flight", "in_flight" },
        { "max-failures", "max_failures" }, { "window", "window_s" }, { "timeout", "timeout_s" },
    };
    json_t *order = must(json_object());
    if (!set_text(order, "type", args->words[0]) || !set_text(order, "version", args_get(args, "version")) ||
        !set_text(order, "group", args_get(args, "group"))) {
        json_decref(order);
        return NULL;
    }
    set_text(order, "mode", args_get(args, "mode"));
    if (args_has(args, "to")) {
        json_object_set_new(order, "to", mac_array(args_get(args, "to")));
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        set_number(order, numbers[i].member, args_get(args, numbers[i].flag));
    }
    if (args_has(args, "plan")) {
        json_object_set_new(order, "plan", json_true());
    }
    return order;
}

/* "LABEL     text" with the text escaped; nothing where it is empty. */
static void print_field(const char *label, const char *text)
{
    if (text[0] != '\0') {
        printf("%-10s", label);
        shown_print(stdout, text);
        putchar('\n');
    }
}

static void print_messages(const json_t *plan)
{
    const json_t *messages = json_object_get(plan, "messages"), *message;
    size_t i, all = json_array_size(messages), count = all < MESSAGES_SHOWN ? all : MESSAGES_SHOWN;
    json_array_foreach(messages, i, message)
    {
        if (i == count) {
            break;
        }
        print_field(i == 0 ? "command" : "", field_text(message, "topic"));
        print_field("", field_text(message, "payload"));
    }
    if (field_number(plan, "message_count") > count) { /* alike, but for the device */
        printf("%-10sand %" PRIu64 " more\n", "", field_number(plan, "message_count") - count);
    }
}

/* A sentence, wrapped; fields are not: what will be sent can be copied. */
static void print_sentence(const char *label, const char *text)
{
    if (text[0] != '\0') {
        printf("%-10s", label);
        shown_wrapped(stdout, text, 10, 10, shown_width(stdout));
        putchar('\n');
    }
}

static void print_notes(const json_t *plan)
{
    const json_t *note;
    size_t i;
    json_array_foreach(json_object_get(plan, "notes"), i, note)
    {
        print_sentence("note", json_is_string(note) ? json_string_value(note) : "");
    }
}

/* "120 known, 3 run it already, 56 to update, of the group kitchen, 10 % of them: about 6; 5 of them first" */
static void print_selected(const json_t *plan, const json_t *selected)
{
    const json_t *devices = json_object_get(plan, "devices");
    uint64_t chosen = field_number(devices, "chosen"), canary = field_number(selected, "canary");
    char text[512];
    size_t used;
    snprintf(text, sizeof text, "%" PRIu64 " known, %" PRIu64 " run it already, %" PRIu64 " to update",
             field_number(devices, "known"), field_number(devices, "current"), field_number(devices, "to_update"));
    used = strlen(text);
    if (field_text(selected, "group")[0] != '\0') {
        used +=
            (size_t)snprintf(text + used, sizeof text - used, ", of the group %.128s", field_text(selected, "group"));
    }
    if (selected != NULL && field_number(selected, "percent") < 100) {
        used += (size_t)snprintf(text + used, sizeof text - used, ", %" PRIu64 " %% of them: about %" PRIu64,
                                 field_number(selected, "percent"), chosen);
    }
    if (canary > 0 && chosen > 0 && canary >= chosen) {
        used += (size_t)snprintf(text + used, sizeof text - used, "; all of them as canaries");
    } else if (canary > 0) {
        used += (size_t)snprintf(text + used, sizeof text - used, "; %" PRIu64 " of them first", canary);
    }
    if (field_number(devices, "away") > 0) {
        snprintf(text + used, sizeof text - used, "; %" PRIu64 " said that they are gone, and get it when they come",
                 field_number(devices, "away"));
    }
    print_sentence("devices", text);
}

/* "5ccf7fb1e042, 5ccf7fb1e043 and 10 more" */
static void print_first(const json_t *plan, const json_t *selected)
{
    const json_t *first = json_object_get(selected, "first"), *mac;
    uint64_t all = field_number(json_object_get(plan, "devices"), "to_update");
    char text[FIRST_SHOWN * 40 + 40];
    size_t i, used = 0;
    json_array_foreach(first, i, mac)
    {
        if (i < FIRST_SHOWN) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%.32s", i > 0 ? ", " : "",
                                     json_is_string(mac) ? json_string_value(mac) : "");
        }
    }
    size_t shown = i < FIRST_SHOWN ? i : FIRST_SHOWN;
    if (shown > 0 && all > shown) {
        snprintf(text + used, sizeof text - used, " and %" PRIu64 " more", all - shown);
    }
    print_sentence("gets it", shown > 0 ? text : "");
}

/* "3 wrong-chip: the image is for another chip (5ccf7fb1e042, 5ccf7fb1e043, ...)" */
static void print_skipped(const json_t *selected)
{
    const json_t *skipped = json_object_get(selected, "skipped"), *one, *mac;
    size_t i, k;
    json_array_foreach(skipped, i, one)
    {
        char text[2048];
        const json_t *first = json_object_get(one, "first");
        const char *detail = field_text(one, "detail");
        size_t used = (size_t)snprintf(text, sizeof text, "%" PRIu64 " %.64s%s%.1024s", field_number(one, "count"),
                                       field_text(one, "reason"), detail[0] != '\0' ? ": " : "", detail);
        json_array_foreach(first, k, mac)
        {
            if (used < sizeof text) {
                used += (size_t)snprintf(text + used, sizeof text - used, "%s%.32s", k == 0 ? " (" : ", ",
                                         json_is_string(mac) ? json_string_value(mac) : "");
            }
        }
        if (k > 0 && used < sizeof text) {
            snprintf(text + used, sizeof text - used, "%s)", field_number(one, "count") > k ? ", ..." : "");
        }
        print_sentence(i == 0 ? "skipped" : "", text);
    }
}

/* How they are told, how many at once, and how long that takes. */
static void print_pace(const json_t *plan)
{
    const json_t *in_flight = json_object_get(plan, "in_flight");
    char text[256], room[SHOWN_SIZE];
    uint64_t size = field_number(plan, "in_flight");
    print_sentence("how", field_text(plan, "how"));
    if (json_is_integer(in_flight)) {
        snprintf(text, sizeof text, "%" PRIu64 " devices at most", size);
        print_sentence("at once", size > 0 ? text : "as many as the network carries, found out while it goes");
    }
    if (field_text(plan, "seconds_text")[0] != '\0') {
        print_sentence("takes", field_text(plan, "seconds_text"));
    } else if (json_object_get(plan, "seconds") != NULL) {
        snprintf(text, sizeof text, "about %s", shown_age(field_number(plan, "seconds"), room));
        print_sentence("takes", json_is_integer(json_object_get(plan, "seconds")) ? text : "nothing was measured yet");
    }
}

static void print_plan(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    const json_t *plan = json_object_get(reply, "plan"), *selected = json_object_get(plan, "selected");
    const json_t *image = json_object_get(plan, "image"), *broker = json_object_get(plan, "broker");
    static const char *const members[] = { "file", "bytes", "chip", "md5", NULL };
    char text[2048];
    snprintf(text, sizeof text, "%s %s (%s)", field_text(plan, "type"), field_text(plan, "version"),
             field_text(plan, "mode"));
    print_field("update", text);
    cli_image_text(image, members, text, sizeof text);
    print_field("image", text);
    print_field("url", field_text(plan, "url"));
    print_messages(plan);
    print_selected(plan, selected);
    print_first(plan, selected);
    print_skipped(selected);
    print_pace(plan);
    const char *error = field_text(broker, "error");
    snprintf(text, sizeof text, "%s%s%s", field_text(broker, "state"), error[0] != '\0' ? ": " : "", error);
    print_sentence("broker", text);
    print_sentence("warning", field_text(plan, "public_url_warning"));
    print_notes(plan);
    puts("nothing was published");
}

static void print_begun(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    shown_print(stdout, field_text(reply, "id"));
    putchar(' ');
    shown_print(stdout, field_text(reply, "state"));
    putchar('\n');
}

/* Devices that are named are not chosen among others. */
static bool contradicts(const struct cli *cli)
{
    static const char *const choices[] = { "group", "percent", "canary" };
    char message[64];
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (args_has(cli->args, "to") && args_has(cli->args, choices[i])) {
            snprintf(message, sizeof message, "--to names each device, --%s chooses among them", choices[i]);
            shown_problem(cli->program, message, "give one of the two");
            return true;
        }
    }
    return false;
}

static enum cli_exit run(struct cli *cli)
{
    if (contradicts(cli)) {
        return CLI_USAGE;
    }
    struct api_path path;
    json_t *order = make_order(cli->args), *reply = NULL;
    if (order == NULL) {
        shown_problem(cli->program, "the type, the version or the group is not valid UTF-8",
                      "\"updraft firmware ls\" and \"updraft devices groups\" list them");
        return CLI_USAGE;
    }
    api_path_begin(&path, "/api/v1/rollouts");
    enum api_result result = api_call(cli->api, "POST", &path, order, &reply);
    json_decref(order);
    if (args_has(cli->args, "plan")) {
        return cli_answer(cli, result, reply, print_plan);
    }
    if (args_has(cli->args, "no-wait") || result != API_DONE) {
        cli_print_notes(reply, 0);
        return cli_answer(cli, result, reply, print_begun);
    }
    return follow_rollout(cli, reply);
}

const struct verb verb_publish_update = {
    .name = "publish-update",
    .words = "TYPE",
    .words_min = 1,
    .words_max = 1,
    .flags = flags,
    .summary = "tell the devices of a type to update, and watch",
    .more =
        "Tells the devices over MQTT, as many at once as is good for them, and watches until each is back with the new "
        "build, failed, or stayed silent; devices that only ask get it too, when it is their turn. Ctrl-C ends the "
        "watching; the rollout goes on. One that halts waits for \"updraft rollouts resume\" or \"abort\".",
    .run = run,
};
