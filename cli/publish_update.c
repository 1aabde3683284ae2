/* publish-update: asks the server to tell a type's devices, then watches. The server decides and publishes. */
#include "base/text.h"
#include "cli/follow.h"
#include "cli/shown.h"
#include "cli/verb.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct flag flags[] = {
    { "version", FLAG_TEXT, "V", "this version, also an older one, such as 0.4.9 (default: the newest)" },
    { "mode", FLAG_CHOICE, "sketch|fs", "what is updated: the sketch (default) or the file system" },
    { "to", FLAG_MACS, "MAC,...",
      "these devices alone, such as 5c:cf:7f:b1:e0:42,5ccf7fb1e043 (default: all of the type)" },
    { "timeout", FLAG_TIMEOUT, "S",
      "how long the broker may be away, and then how long nothing may be heard of devices: seconds, or 90s, 5m, 1h; "
      "from 1s to 24h (default: 5m)" },
    { "window", FLAG_SECONDS, "S",
      "each device waits a random time up to this before it asks: seconds, or 90s, 5m, 1h; up to 24h (default: 0)" },
    { "plan", FLAG_SWITCH, "", "say what would happen; publish nothing" },
    { "no-wait", FLAG_SWITCH, "", "do not watch: print the rollout's id and state, and end" },
    COMMON_FLAGS,
};

static void set_seconds(json_t *order, const char *key, const char *seconds)
{
    if (seconds != NULL) {
        json_object_set_new(order, key, json_integer(strtoll(seconds, NULL, 10)));
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
    json_t *order = must(json_object());
    if (!set_text(order, "type", args->words[0]) || !set_text(order, "version", args_get(args, "version"))) {
        json_decref(order);
        return NULL;
    }
    set_text(order, "mode", args_get(args, "mode"));
    if (args_has(args, "to")) {
        json_object_set_new(order, "to", mac_array(args_get(args, "to")));
    }
    set_seconds(order, "window_s", args_get(args, "window"));
    set_seconds(order, "timeout_s", args_get(args, "timeout"));
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
    size_t i, count = json_array_size(messages);
    json_array_foreach(messages, i, message)
    {
        print_field(i == 0 ? "command" : "", field_text(message, "topic"));
        print_field("", field_text(message, "payload"));
    }
    if (field_number(plan, "message_count") > count) {
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

static void print_plan(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    const json_t *plan = json_object_get(reply, "plan");
    const json_t *image = json_object_get(plan, "image"), *devices = json_object_get(plan, "devices");
    const json_t *broker = json_object_get(plan, "broker");
    static const char *const members[] = { "file", "bytes", "chip", "md5", NULL };
    char text[2048];
    snprintf(text, sizeof text, "%s %s (%s)", field_text(plan, "type"), field_text(plan, "version"),
             field_text(plan, "mode"));
    print_field("update", text);
    cli_image_text(image, members, text, sizeof text);
    print_field("image", text);
    print_field("url", field_text(plan, "url"));
    print_messages(plan);
    snprintf(text, sizeof text, "%" PRIu64 " known, %" PRIu64 " run it already, %" PRIu64 " to update",
             field_number(devices, "known"), field_number(devices, "current"), field_number(devices, "to_update"));
    print_field("devices", text);
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

static enum cli_exit run(struct cli *cli)
{
    struct api_path path;
    json_t *order = make_order(cli->args), *reply = NULL;
    if (order == NULL) {
        shown_problem(cli->program, "the type or the version is not valid UTF-8", "\"updraft firmware ls\" lists both");
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
        "Publishes one MQTT command to the type's topic (with --to: to each device's), and watches until each device "
        "is back with the new build, failed, or stayed silent. Ctrl-C ends the watching; the rollout goes on.",
    .run = run,
};
