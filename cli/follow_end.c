/* How a rollout ended, in words and as an exit code. Hard is to be fair: a device that slept proves nothing, unless the
 * operator asked for this very one; one that runs the build already is none that was refused it.
 */
#include "cli/follow.h"

#include "cli/shown.h"

#include <inttypes.h>
#include <string.h>

#define TROUBLED_SHOWN 20
#define TROUBLED_ASKED "1000" /* of each state, to count their reasons; the server gives no more at once */
#define REASONS_FROM   6      /* fewer devices are their own list */
#define REASONS_SHOWN  8

struct end {
    struct cli *cli;
    const struct api_path *path;
    json_t *rollout;
    struct progress progress;
    bool named;       /* the order names its devices */
    json_t *troubled; /* devices that have not got it, as far as they are listed */
    uint64_t refused; /* of them, those that were skipped for another reason than that they run it */
    char message[4096], remedy[1024];
    bool commands; /* below the remedy: how to go on, and how not to */
};

static uint64_t count_of(const struct end *end, enum progress_count count)
{
    return end->progress.devices[count];
}

/* --- who has not got it ------------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* It needed the image and could not get it. Who is kept from it by an operator's own word was left out on purpose,
 * unless this very one was named. */
static bool is_refused(const struct end *end, const json_t *device)
{
    static const char *const words[] = { "pinned", "assigned", "blocked", "unapproved", "superseded" };
    const char *why = field_text(device, "why");
    bool by_word = false;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        by_word = by_word || begins(why, words[i]);
    }
    return strcmp(field_text(device, "state"), progress_word(COUNT_SKIPPED)) == 0 && why[0] != '\0' &&
           strcmp(why, FOLLOW_RUNS_IT) != 0 && (end->named || !by_word);
}

/* Whether one was refused for what it did before. */
static bool is_held_by_record(const struct end *end)
{
    const json_t *device;
    size_t i;
    bool held = false;
    json_array_foreach(end->troubled, i, device)
    {
        const char *why = field_text(device, "why");
        held = held || begins(why, "loop-guard") || begins(why, "never-again");
    }
    return held;
}

static void ask_state(struct end *end, enum progress_count state)
{
    struct api_path path = *end->path;
    json_t *reply = NULL, *device;
    size_t i;
    api_path_query(&path, "devices", "yes");
    api_path_query(&path, "state", progress_word(state));
    if (!end->named) {
        api_path_query(&path, "limit", TROUBLED_ASKED);
    }
    enum api_result result = end->named ? api_get_all(end->cli->api, &path, "device_list", &reply)
                                        : api_call(end->cli->api, "GET", &path, NULL, &reply);
    if (result != API_DONE) {
        return; /* the counts are there */
    }
    json_array_foreach(json_object_get(reply, "device_list"), i, device)
    {
        bool refused = is_refused(end, device);
        if (state != COUNT_SKIPPED || refused) {
            json_array_append(end->troubled, device);
            end->refused += refused;
        }
    }
    json_decref(reply);
}

/* A state at a time: of a large fleet, those that have it are not asked for. */
static void ask_troubled(struct end *end)
{
    static const enum progress_count states[] = { COUNT_FAILED, COUNT_SILENT, COUNT_SKIPPED };
    end->troubled = must(json_array());
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        bool matters = states[i] != COUNT_SKIPPED || end->named || !end->progress.all_run_it;
        if (matters && count_of(end, states[i]) > 0) {
            ask_state(end, states[i]);
        }
    }
}

/* Why a device has not got the update: as the server says, or what its silence means. */
static void why_troubled(const struct end *end, const json_t *device, char *to, size_t size)
{
    char room[SHOWN_SIZE];
    const char *why = field_text(device, "why");
    bool silent = strcmp(field_text(device, "state"), progress_word(COUNT_SILENT)) == 0;
    bool said = why[0] != '\0' && strcmp(why, field_text(end->rollout, "why")) == 0; /* of the rollout itself */
    to[0] = '\0';
    if (why[0] != '\0' && !said) {
        shown_text(why, to, size);
    } else if (!said && silent && !progress_nobody_was_told(&end->progress)) {
        snprintf(to, size, "nothing was heard of it in %s", shown_age((uint64_t)end->progress.elapsed_s, room));
    }
}

/* Devices that have not got it for the same reason. */
struct alike {
    char text[256]; /* "failed: cut at N %: ..." */
    uint64_t count;
};

/* The same whichever the figures: "cut at 37 %" and "cut at 4 %" are one reason. */
static void drop_figures(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0';) {
        size_t digits = strspn(at, "0123456789");
        if (digits > 0 && strncmp(at + digits, " %", 2) == 0) {
            *to++ = 'N'; /* never longer than what it stands for */
            at += digits;
        } else {
            *to++ = *at++;
        }
    }
    *to = '\0';
}

static size_t count_reasons(const struct end *end, struct alike *alike, size_t max)
{
    size_t i, k, used = 0;
    const json_t *device;
    json_array_foreach(end->troubled, i, device)
    {
        char why[2048], text[sizeof alike->text];
        why_troubled(end, device, why, sizeof why);
        snprintf(text, sizeof text, "%s%s%.200s", field_text(device, "state"), why[0] != '\0' ? ": " : "", why);
        drop_figures(text);
        for (k = 0; k < used && strcmp(alike[k].text, text) != 0; k++) {
        }
        if (k == used && used < max) {
            snprintf(alike[used++].text, sizeof alike->text, "%s", text);
        }
        if (k < used) {
            alike[k].count++;
        }
    }
    return used;
}

/* "  12 failed: took all of it and came back with what it ran before", the most frequent first. */
static void print_reasons(const struct end *end, FILE *to)
{
    struct alike alike[32] = { { .count = 0 } };
    char start[32];
    if (json_array_size(end->troubled) < REASONS_FROM || progress_nobody_was_told(&end->progress)) {
        return;
    }
    size_t used = count_reasons(end, alike, sizeof alike / sizeof alike[0]);
    for (size_t shown = 0; shown < used && shown < REASONS_SHOWN; shown++) {
        struct alike *most = &alike[0];
        for (size_t i = 1; i < used; i++) {
            most = alike[i].count > most->count ? &alike[i] : most;
        }
        snprintf(start, sizeof start, "  %" PRIu64 " ", most->count);
        fputs(start, to);
        shown_wrapped(to, most->text, strlen(start), 4, shown_width(to));
        fputc('\n', to);
        most->count = 0;
    }
}

/* By MAC and with why; no more than fit a screen. */
static void print_troubled(const struct end *end, FILE *to)
{
    size_t i, shown = 0, width = shown_width(to);
    uint64_t all = count_of(end, COUNT_FAILED) + count_of(end, COUNT_SILENT) + end->refused;
    const json_t *device;
    json_array_foreach(end->troubled, i, device)
    {
        char start[64], why[2048];
        if (shown == TROUBLED_SHOWN) {
            break;
        }
        const char *state = field_text(device, "state");
        bool silent = strcmp(state, progress_word(COUNT_SILENT)) == 0;
        why_troubled(end, device, why, sizeof why);
        snprintf(start, sizeof start, "%s %s%s", field_text(device, "mac"),
                 silent && progress_nobody_was_told(&end->progress) ? PROGRESS_NOT_TOLD : state,
                 why[0] != '\0' ? ": " : "");
        fputs("  ", to);
        shown_print(to, start);
        shown_wrapped(to, why, 2 + strlen(start), 4, width);
        fputc('\n', to);
        shown++;
    }
    if (all > shown) {
        fprintf(to, "  and %" PRIu64 " more\n", all - shown);
    }
}

/* --- judging ------------------------------------------------------------------------------------------------------ */

static enum cli_exit judge_stopped(struct end *end)
{
    const struct progress *progress = &end->progress;
    const char *why = progress->why[0] != '\0' ? progress->why : "the server does not say why";
    if (progress_is(progress, "halted")) {
        snprintf(end->message, sizeof end->message, "the rollout halted: %s", why);
        const char *resume = field_text(end->rollout, "resume");
        snprintf(end->remedy, sizeof end->remedy,
                 "see to the cause, then let it go on (what failed so far is forgiven%s%s), end it, or go back to an "
                 "older version:",
                 resume[0] != '\0' ? "; " : "", resume);
        end->commands = true;
        return CLI_FAILED;
    }
    snprintf(end->message, sizeof end->message, "the rollout was aborted: %s", why);
    snprintf(end->remedy, sizeof end->remedy,
             progress->superseded ? "the newer one is followed by whoever began it"
             : progress_nobody_was_told(progress)
                 ? "no device was told; \"updraft status\" shows the broker's state"
                 : "publish once more to begin anew; --version also names an older one");
    return CLI_FAILED;
}

/* It stands for whoever asks by himself. */
static enum cli_exit judge_standing(struct end *end)
{
    const struct progress *progress = &end->progress;
    snprintf(end->message, sizeof end->message,
             "no device of this type is known, and nobody could be told: the rollout waits for those who ask");
    if (progress_has_no_broker(progress)) {
        snprintf(end->remedy, sizeof end->remedy,
                 "no broker is configured: devices get it when they ask; --mqtt URL of updraftd names a broker");
    } else {
        snprintf(end->remedy, sizeof end->remedy,
                 "name devices with --to; without --canary, --percent and --group one command goes to the whole type, "
                 "where its firmware has a topic for that");
    }
    return CLI_FAILED;
}

static void say_refused(struct end *end)
{
    snprintf(end->remedy, sizeof end->remedy,
             is_held_by_record(end) ? "\"updraft devices retry MAC\" lets one try again that this image failed on; "
                                      "\"updraft explain %s --mac MAC\" says more of each"
                                    : "\"updraft explain %s --mac MAC\" says more of each",
             end->progress.type);
}

/* Nobody has it, and nobody failed. */
static enum cli_exit judge_nothing(struct end *end)
{
    const struct progress *progress = &end->progress;
    bool sent = count_of(end, COUNT_FLASHED) > 0 || progress->bytes > 0;
    if (progress->anonymous > 0) {
        return CLI_DONE; /* who names himself nowhere is counted, not judged */
    }
    if (progress_devices(progress) == 0 && count_of(end, COUNT_SKIPPED) > 0) {
        if (end->refused < count_of(end, COUNT_SKIPPED)) {
            snprintf(end->message, sizeof end->message,
                     "not updated: %" PRIu64 " of %" PRIu64 " devices cannot take it", end->refused,
                     count_of(end, COUNT_SKIPPED));
        } else {
            snprintf(end->message, sizeof end->message, "no device of this type can take it");
        }
        say_refused(end);
        return end->refused > 0 ? CLI_FAILED : CLI_DONE;
    }
    if (!sent && progress_has_no_broker(progress)) {
        snprintf(end->message, sizeof end->message, "no device came for the update, and nobody could be told of it");
        snprintf(end->remedy, sizeof end->remedy,
                 "no broker is configured: devices get it when they ask; --mqtt URL of updraftd names a broker");
        return CLI_FAILED;
    }
    snprintf(end->message, sizeof end->message,
             sent ? "devices came, but none came back with the new build in time" : "no device came for the update");
    snprintf(end->remedy, sizeof end->remedy,
             sent ? "allow more time with --timeout, and see the devices' own output"
                  : "check that the devices are on, that their firmware subscribes to the command topic, and that "
                    "they can reach the url: \"publish-update %s --plan\" shows both",
             progress->type);
    return CLI_FAILED;
}

/* "1 failed, 2 silent" of those that have not got it. */
static void count_troubled(const struct end *end, char *to, size_t size)
{
    const struct {
        uint64_t n;
        const char *word;
    } parts[] = { { count_of(end, COUNT_FAILED), progress_word(COUNT_FAILED) },
                  { count_of(end, COUNT_SILENT), progress_word(COUNT_SILENT) },
                  { end->refused, progress_word(COUNT_SKIPPED) } };
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].n > 0 && used < size) {
            used += (size_t)snprintf(to + used, size - used, "%s%" PRIu64 " %s", used > 0 ? ", " : "", parts[i].n,
                                     parts[i].word);
        }
    }
}

static enum cli_exit judge_devices(struct end *end)
{
    char counted[96], room[SHOWN_SIZE];
    const struct progress *progress = &end->progress;
    uint64_t failed = count_of(end, COUNT_FAILED), silent = count_of(end, COUNT_SILENT);
    uint64_t all = progress_devices(progress) + (end->named ? count_of(end, COUNT_SKIPPED) : end->refused);
    uint64_t good = count_of(end, COUNT_CONFIRMED) + (end->named ? count_of(end, COUNT_SKIPPED) - end->refused : 0);
    if (failed == 0 && good == 0 && (!end->named || end->refused == 0)) {
        return judge_nothing(end);
    }
    if (failed + end->refused == 0 && (!end->named || silent == 0)) {
        return CLI_DONE;
    }
    count_troubled(end, counted, sizeof counted);
    say_refused(end);
    snprintf(end->message, sizeof end->message, "not updated: %s of %s", counted,
             shown_count(all, end->named ? "named device" : "device", room));
    if (failed + silent == 0) {
        return CLI_FAILED;
    }
    snprintf(end->remedy, sizeof end->remedy,
             failed > 0 ? "\"updraft devices show MAC\" has what happened to it; \"updraft devices retry MAC\" lets it "
                          "try again"
                        : "check that they are on and that their firmware subscribes to the command topic, which "
                          "\"publish-update %s --plan\" shows; they are served whenever they ask",
             progress->type);
    return CLI_FAILED;
}

/* --- saying ------------------------------------------------------------------------------------------------------- */

/* The whole list, which a program that named devices asks for. */
static void add_device_list(struct end *end)
{
    struct api_path path = *end->path;
    json_t *whole = NULL;
    api_path_query(&path, "devices", "yes");
    if (api_get_all(end->cli->api, &path, "device_list", &whole) == API_DONE) {
        json_object_set(end->rollout, "device_list", json_object_get(whole, "device_list"));
        json_decref(whole);
    }
}

/* The server's last word; why it is no success, where that is judged here, and the devices that were named. */
static void print_document(struct end *end)
{
    if (end->message[0] != '\0' && field_text(end->rollout, "why")[0] == '\0') {
        json_object_set_new(end->rollout, "why", must(json_string(end->message)));
    }
    if (end->named) {
        add_device_list(end);
    }
    cli_print_json(end->rollout);
}

/* Where the server is, as it was said here. */
static void print_place(const struct end *end)
{
    static const char *const places[] = { "admin-socket", "server" };
    for (size_t k = 0; k < sizeof places / sizeof places[0]; k++) {
        if (args_has(end->cli->args, places[k])) {
            fprintf(stderr, " --%s ", places[k]);
            shown_print(stderr, args_get(end->cli->args, places[k]));
        }
    }
    fputc('\n', stderr);
}

/* As they are to be typed here. */
static void print_commands(const struct end *end)
{
    static const char *const words[] = { "resume", "abort" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        fprintf(stderr, "    updraft rollouts %s %s", words[i], end->progress.id);
        print_place(end);
    }
    fprintf(stderr, "    publish-update %s%s --version OLD", end->progress.type,
            strcmp(field_text(end->rollout, "mode"), "fs") == 0 ? " --mode fs" : "");
    print_place(end);
}

enum cli_exit follow_end(struct cli *cli, const struct api_path *path, json_t *rollout)
{
    char summary[1024];
    struct end end = { .cli = cli, .path = path, .rollout = rollout, .named = args_has(cli->args, "to") };
    follow_read(rollout, &end.progress);
    ask_troubled(&end);
    enum cli_exit code = progress_is(&end.progress, "done")         ? judge_devices(&end)
                         : progress_awaits_strangers(&end.progress) ? judge_standing(&end)
                                                                    : judge_stopped(&end);
    if (code == CLI_DONE) {
        end.message[0] = '\0';
    }
    if (cli->json) {
        print_document(&end);
    } else {
        progress_summary(&end.progress, summary, sizeof summary);
        shown_wrapped(stdout, summary, 0, 2, shown_width(stdout)); /* escaped already: printable stays */
        putchar('\n');
    }
    if (code != CLI_DONE) {
        shown_note(cli->program, end.message);
        print_reasons(&end, stderr);
        print_troubled(&end, stderr);
        shown_note("  remedy", end.remedy);
    } else if (!cli->json) {
        print_troubled(&end, stdout);
    }
    if (end.commands) {
        print_commands(&end);
    }
    json_decref(end.troubled);
    return code;
}
