/* devices: what an operator decides of one. Each part has its words, the members that these become, and the same
 * answer, the device as it stands from now on.
 */
#include "cli/devices.h"
#include "cli/shown.h"

#include <inttypes.h>
#include <string.h>

#define CHANGES_MAX 16 /* groups in one order */

static const struct flag plain_flags[] = { COMMON_FLAGS };
static const struct flag note_flags[] = {
    { "note", FLAG_TEXT, "N", "why, for whoever looks at the device later" },
    COMMON_FLAGS,
};

static enum cli_exit not_text(const struct cli *cli)
{
    shown_problem(cli->program, "what was given is not valid UTF-8", "use letters, digits, \".\", \"-\" and \"_\"");
    return CLI_USAGE;
}

/* What was done first where it leaves nothing to be seen ("unpinned"), then what holds from now on. */
static void print_standing(const json_t *device, const char *done)
{
    char text[1024];
    device_policy_text(device, text, sizeof text);
    shown_print(stdout, field_text(device, "mac"));
    printf(": %s%s", done, done[0] != '\0' && text[0] != '\0' ? "; " : "");
    shown_print(stdout, text[0] == '\0' && done[0] == '\0' ? "nothing is decided of it" : text);
    putchar('\n');
}

static void print_policy(const struct cli *cli, const json_t *device)
{
    (void)cli;
    print_standing(device, "");
}

static void print_unpinned(const struct cli *cli, const json_t *device)
{
    (void)cli;
    print_standing(device, "unpinned");
}

static void print_unassigned(const struct cli *cli, const json_t *device)
{
    (void)cli;
    print_standing(device, "unassigned");
}

static void print_unblocked(const struct cli *cli, const json_t *device)
{
    (void)cli;
    print_standing(device, "unblocked");
}

/* Sends `policy` (taken over), with the note. NULL = a word was no text. */
static enum cli_exit patch(struct cli *cli, json_t *policy, print_fn print)
{
    struct api_path path;
    enum cli_exit code = CLI_USAGE;
    const char *note = args_get(cli->args, "note");
    if (policy == NULL || (note != NULL && json_object_set_new(policy, "note", json_string(note)) != 0)) {
        code = not_text(cli);
    } else if (device_path(cli, &path)) {
        code = cli_change(cli, "PATCH", &path, policy, print);
    }
    json_decref(policy);
    return code;
}

static enum cli_exit run_pin(struct cli *cli)
{
    return patch(cli, json_pack("{s:s}", "pin", cli->args->words[1]), print_policy);
}

static enum cli_exit run_unpin(struct cli *cli)
{
    return patch(cli, json_pack("{s:n}", "pin"), print_unpinned);
}

static enum cli_exit run_assign(struct cli *cli)
{
    const struct args *args = cli->args;
    const char *label = args->word_count > 2 ? args->words[2] : "";
    return patch(cli, json_pack("{s:{s:s, s:s}}", "assign", "type", args->words[1], "label", label), print_policy);
}

static enum cli_exit run_unassign(struct cli *cli)
{
    return patch(cli, json_pack("{s:n}", "assign"), print_unassigned);
}

static enum cli_exit run_block(struct cli *cli)
{
    return patch(cli, json_pack("{s:b}", "blocked", 1), print_policy);
}

static enum cli_exit run_unblock(struct cli *cli)
{
    return patch(cli, json_pack("{s:b}", "blocked", 0), print_unblocked);
}

static enum cli_exit run_approve(struct cli *cli)
{
    return patch(cli, json_pack("{s:b}", "approved", 1), print_policy);
}

/* "+kitchen -cellar": into one, out of the other. */
static enum cli_exit run_group(struct cli *cli)
{
    char message[160];
    json_t *add = must(json_array()), *leave = must(json_array());
    bool is_text = true;
    for (size_t i = 1; i < cli->args->word_count; i++) {
        const char *word = cli->args->words[i];
        if ((word[0] != '+' && word[0] != '-') || word[1] == '\0') {
            snprintf(message, sizeof message, "\"%.64s\" is no change: write +%.64s or -%.64s", word, word, word);
            shown_problem(cli->program, word[1] == '\0' ? "a group has no name: write +NAME or -NAME" : message, "");
            json_decref(add);
            json_decref(leave);
            return CLI_USAGE;
        }
        is_text = json_array_append_new(word[0] == '+' ? add : leave, json_string(word + 1)) == 0 && is_text;
    }
    json_t *policy = must(json_object());
    if (json_array_size(add) > 0) {
        json_object_set(policy, "groups_add", add);
    }
    if (json_array_size(leave) > 0) {
        json_object_set(policy, "groups_remove", leave);
    }
    json_decref(add);
    json_decref(leave);
    if (!is_text) {
        json_decref(policy);
        return not_text(cli);
    }
    return patch(cli, policy, print_policy);
}

static void print_forgotten(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    char room[SHOWN_SIZE];
    shown_print(stdout, field_text(reply, "mac"));
    printf(": %s forgotten that it failed with; no failure keeps an image from it any more\n",
           shown_count(field_number(reply, "forgotten"), "image", room));
}

static enum cli_exit run_retry(struct cli *cli)
{
    struct api_path path;
    if (!device_path(cli, &path)) {
        return CLI_USAGE;
    }
    api_path_name(&path, "retry");
    json_t *nothing = must(json_object());
    enum cli_exit code = cli_change(cli, "POST", &path, nothing, print_forgotten);
    json_decref(nothing);
    return code;
}

static void print_removed(const struct cli *cli, const json_t *reply)
{
    (void)cli;
    printf("forgot ");
    shown_print(stdout, field_text(reply, "removed"));
    puts(" and what was decided of it; when it asks again, it is a new device");
    cli_print_notes(reply, 0);
}

static enum cli_exit run_forget(struct cli *cli)
{
    struct api_path path;
    return device_path(cli, &path) ? cli_change(cli, "DELETE", &path, NULL, print_removed) : CLI_USAGE;
}

/* --- the verbs ---------------------------------------------------------------------------------------------------- */

const struct verb verb_devices_pin = {
    .name = "devices",
    .sub = "pin",
    .words = "MAC VERSION",
    .words_min = 2,
    .words_max = 2,
    .flags = note_flags,
    .summary = "keep a device at exactly this version, also an older one",
    .more = "It goes there at its next check; \"publish-update TYPE --to MAC\" tells it to check now.",
    .run = run_pin,
};
const struct verb verb_devices_unpin = {
    .name = "devices",
    .sub = "unpin",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "let it have what its type has",
    .more = "",
    .run = run_unpin,
};
const struct verb verb_devices_assign = {
    .name = "devices",
    .sub = "assign",
    .words = "MAC TYPE [LABEL]",
    .words_min = 2,
    .words_max = 3,
    .flags = note_flags,
    .summary = "say what a device is, whatever it asks as",
    .more = "With LABEL it is to run exactly the image LABEL.bin.",
    .run = run_assign,
};
const struct verb verb_devices_unassign = {
    .name = "devices",
    .sub = "unassign",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "let it be what it asks as",
    .more = "",
    .run = run_unassign,
};
const struct verb verb_devices_block = {
    .name = "devices",
    .sub = "block",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = note_flags,
    .summary = "send it nothing until it is unblocked",
    .more = "",
    .run = run_block,
};
const struct verb verb_devices_unblock = {
    .name = "devices",
    .sub = "unblock",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "send it updates again",
    .more = "",
    .run = run_unblock,
};
const struct verb verb_devices_approve = {
    .name = "devices",
    .sub = "approve",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = note_flags,
    .summary = "let a device have updates that is held until it is approved",
    .more = "",
    .run = run_approve,
};
const struct verb verb_devices_retry = {
    .name = "devices",
    .sub = "retry",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "offer it also the images that it failed with",
    .more =
        "The server keeps from a device what it rolled back from, failed twice with, or took again and again without "
        "coming back with it. This forgets it.",
    .run = run_retry,
};
const struct verb verb_devices_forget = {
    .name = "devices",
    .sub = "forget",
    .words = "MAC",
    .words_min = 1,
    .words_max = 1,
    .flags = plain_flags,
    .summary = "forget a device, and what was decided of it",
    .more = "One whose retained \"online\" message the broker still keeps comes back with it: docs/mqtt.md says how to "
            "clear that.",
    .run = run_forget,
};
const struct verb verb_devices_group = {
    .name = "devices",
    .sub = "group",
    .words = "MAC +NAME -NAME ...",
    .words_min = 2,
    .words_max = 1 + CHANGES_MAX,
    .dash_words = true,
    .flags = plain_flags,
    .summary = "put a device into groups, and take it out of others",
    .more = "A group is there as long as a device is in it; \"publish-update --group\" is for its members.",
    .run = run_group,
};
