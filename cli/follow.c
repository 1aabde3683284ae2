/* The server owns the rollout; this only looks. So Ctrl-C, a lost server or a closed terminal change nothing in the
 * field, and each of these has to be said for what it is.
 */
#include "cli/follow.h"

#include "cli/shown.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_LIVE_MS     200
#define LOOK_LINES_MS    500
#define GONE_PATIENCE_S  30.0
#define CALL_PATIENCE_MS 5000L
#define TROUBLED_SHOWN   20

struct follow {
    struct cli *cli;
    struct api_path path;
    bool named;      /* the order names its devices */
    json_t *rollout; /* the last news */
    size_t notes;    /* of it that have been said: looking through a large fleet takes the server a while */
    struct progress progress;
    struct progress_pace pace;
    struct live live;
    bool is_live;
    char said[2048];  /* the last line, so that one comes only with a change */
    double gone_at_s; /* since when the server has been away; 0 = it is there */
    char note[1024];  /* below the block */
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static bool is_interrupted(void *owner)
{
    (void)owner;
    return interrupted != 0;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

void follow_read(const json_t *rollout, struct progress *progress)
{
    memset(progress, 0, sizeof *progress);
    const json_t *devices = json_object_get(rollout, "devices"), *commands = json_object_get(rollout, "commands");
    const json_t *broker = json_object_get(rollout, "broker");
    shown_text(field_text(rollout, "id"), progress->id, sizeof progress->id);
    shown_text(field_text(rollout, "type"), progress->type, sizeof progress->type);
    shown_text(field_text(rollout, "version"), progress->version, sizeof progress->version);
    shown_text(field_text(rollout, "state"), progress->state, sizeof progress->state);
    shown_text(field_text(rollout, "why"), progress->why, sizeof progress->why);
    shown_text(field_text(broker, "state"), progress->broker_state, sizeof progress->broker_state);
    shown_text(field_text(broker, "error"), progress->broker_error, sizeof progress->broker_error);
    for (size_t i = 0; i < PROGRESS_COUNTS; i++) {
        progress->devices[i] = field_number(devices, progress_word((enum progress_count)i));
    }
    progress->expected = field_number(devices, "expected");
    progress->untracked = field_number(devices, "untracked");
    progress->commands = field_number(commands, "sent");
    progress->acknowledged = field_number(commands, "acknowledged");
    progress->bytes = field_number(rollout, "bytes");
    progress->bytes_expected = field_number(rollout, "bytes_expected");
    progress->elapsed_s = field_real(rollout, "elapsed_s");
    progress->timeout_s = field_number(rollout, "timeout_s");
    progress->window_s = field_number(rollout, "window_s");
}

/* Above the block, which is drawn anew below. */
static void show_notes(struct follow *follow)
{
    static const struct block nothing;
    if (json_array_size(json_object_get(follow->rollout, "notes")) <= follow->notes) {
        return;
    }
    if (follow->is_live) {
        live_draw(&follow->live, &nothing);
    }
    follow->notes = cli_print_notes(follow->rollout, follow->notes);
}

static void take_news(struct follow *follow, json_t *rollout)
{
    json_decref(follow->rollout);
    follow->rollout = rollout;
    follow_read(rollout, &follow->progress);
    progress_pace_update(&follow->pace, &follow->progress, now_s());
}

/* --- showing ------------------------------------------------------------------------------------------------------ */

static void say_line(const char *line)
{
    char clock[16];
    time_t now = time(NULL);
    struct tm local;
    localtime_r(&now, &local);
    strftime(clock, sizeof clock, "%H:%M:%S", &local);
    printf("%s %s\n", clock, line);
    fflush(stdout);
}

static void show(struct follow *follow)
{
    show_notes(follow);
    if (follow->cli->json) {
        return; /* one document, at the end */
    }
    if (follow->is_live) {
        struct block block;
        progress_block(&follow->progress, &follow->pace, follow->note, live_width(&follow->live), follow->live.colours,
                       &block);
        live_draw(&follow->live, &block);
        return;
    }
    char line[sizeof follow->said];
    progress_line(&follow->progress, line, sizeof line);
    if (strcmp(line, follow->said) != 0) {
        memcpy(follow->said, line, sizeof line);
        say_line(line);
    }
}

/* The server did not answer, or answers again: told once each time, on a terminal below the block. */
static void show_gone(struct follow *follow, double gone_s)
{
    const char *why = api_problem(follow->cli->api)->message;
    if (follow->is_live) {
        char text[sizeof follow->note - 64];
        shown_text(why, text, sizeof text);
        snprintf(follow->note, sizeof follow->note, "trying for %.0f s more: %s", GONE_PATIENCE_S - gone_s, text);
    } else if (gone_s == 0) {
        char remedy[64];
        snprintf(remedy, sizeof remedy, "none needed yet; trying again for %.0f s", GONE_PATIENCE_S);
        shown_problem(follow->cli->program, why, remedy);
    }
}

static void show_back(struct follow *follow)
{
    follow->note[0] = '\0';
    if (!follow->is_live) {
        shown_problem(follow->cli->program, "the server answers again", "");
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void wait_ms(long ms)
{
    struct timespec rest = { ms / 1000, ms % 1000 * 1000000 };
    while (!interrupted && nanosleep(&rest, &rest) != 0 && errno == EINTR) {
    }
}

/* Asks once. Returns false where there is no sense in asking again: *code is the exit code then. */
static bool look(struct follow *follow, enum cli_exit *code)
{
    json_t *rollout = NULL;
    enum api_result result = api_call(follow->cli->api, "GET", &follow->path, NULL, &rollout);
    const struct api_problem *problem = api_problem(follow->cli->api);
    if (result == API_DONE) {
        if (follow->gone_at_s > 0) {
            show_back(follow);
        }
        follow->gone_at_s = 0;
        take_news(follow, rollout);
        return true;
    }
    if (result == API_STOPPED) {
        return true;
    }
    if (result == API_REFUSED && problem->status == 404) {
        cli_say_error(
            follow->cli, problem->code, "the server no longer knows this rollout: it was started anew meanwhile",
            "\"updraft explain\" tells of each device what it runs; or publish once more, which harms nobody");
        *code = CLI_FAILED;
        return false;
    }
    if (result == API_REFUSED && problem->status < 500) {
        *code = cli_refused(follow->cli, result);
        return false;
    }
    double now = now_s();
    follow->gone_at_s = follow->gone_at_s > 0 ? follow->gone_at_s : now;
    if (now - follow->gone_at_s >= GONE_PATIENCE_S) {
        cli_refused(follow->cli, result);
        *code = CLI_NO_SERVER;
        return false;
    }
    show_gone(follow, now - follow->gone_at_s);
    return true;
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

/* "1 failed, 2 silent" of those that have not got it. */
static void count_troubled(const struct progress *progress, char *to, size_t size)
{
    const uint64_t *devices = progress->devices;
    uint64_t failed = devices[COUNT_FAILED], silent = devices[COUNT_SILENT], taken = devices[COUNT_SUPERSEDED];
    uint64_t good = progress->devices[COUNT_CONFIRMED] + progress->devices[COUNT_CURRENT];
    uint64_t others = progress_devices(progress) - good - failed - silent - taken;
    const struct {
        uint64_t n;
        const char *word;
    } parts[] = { { failed, "failed" }, { silent, "silent" }, { taken, "superseded" }, { others, "without an end" } };
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].n > 0 && used < size) {
            used += (size_t)snprintf(to + used, size - used, "%s%" PRIu64 " %s", used > 0 ? ", " : "", parts[i].n,
                                     parts[i].word);
        }
    }
}

static enum cli_exit judge_devices(const struct progress *progress, bool named, char *message, char *remedy,
                                   size_t size)
{
    char counts[96], room[SHOWN_SIZE];
    uint64_t failed = progress->devices[COUNT_FAILED], all = progress_devices(progress);
    uint64_t good = progress->devices[COUNT_CONFIRMED] + progress->devices[COUNT_CURRENT];
    count_troubled(progress, counts, sizeof counts);
    if (failed == 0 && good == 0) {
        bool sent = progress->devices[COUNT_SENT] > 0 || progress->bytes > 0;
        snprintf(message, size,
                 sent ? "devices came, but none came back with the new build in time"
                      : "no device came for the update");
        snprintf(remedy, size,
                 sent ? "allow more time with --timeout, and see the devices' own output"
                      : "check that the devices are on, that their firmware subscribes to the command topic, and that "
                        "they can reach the url: \"publish-update %s --plan\" shows both",
                 progress->type);
        return CLI_FAILED;
    }
    if (failed == 0 && (!named || good >= all)) {
        return CLI_DONE;
    }
    snprintf(message, size, "not updated: %s of %s", counts, shown_count(all, named ? "named device" : "device", room));
    snprintf(remedy, size,
             failed > 0
                 ? "they ask again at their next check; \"updraft explain %s --mac MAC\" says what a device would "
                   "get"
                 : "check that they are on and that their firmware subscribes to the command topic, which "
                   "\"publish-update %s --plan\" shows; they are served whenever they ask",
             progress->type);
    return CLI_FAILED;
}

enum cli_exit follow_judge(const struct progress *progress, bool named, char *message, char *remedy, size_t size)
{
    message[0] = remedy[0] = '\0';
    if (strcmp(progress->state, "failed") == 0) {
        snprintf(message, size, "the rollout failed: %s",
                 progress->why[0] != '\0' ? progress->why : "the server does not say why");
        snprintf(remedy, size, "no device was told; \"updraft status\" shows the broker's state");
        return CLI_FAILED;
    }
    if (strcmp(progress->state, "done") == 0 && progress->why[0] != '\0') {
        snprintf(message, size, "the rollout ended early: %s", progress->why);
        snprintf(remedy, size, "the newer one is followed by whoever began it");
        return CLI_FAILED;
    }
    return judge_devices(progress, named, message, remedy, size);
}

/* Why a device has not got the update: as the server says, or what its silence means. */
static void why_troubled(const struct progress *progress, const json_t *device, char *to, size_t size)
{
    char room[SHOWN_SIZE];
    const char *why = field_text(device, "why");
    if (why[0] != '\0') {
        shown_text(why, to, size);
    } else if (strcmp(progress->state, "failed") == 0) {
        to[0] = '\0'; /* the rollout's own is said */
    } else if (progress->why[0] != '\0') {
        snprintf(to, size, "%s", progress->why);
    } else {
        snprintf(to, size, "nothing was heard of it in %s", shown_age((uint64_t)progress->elapsed_s, room));
    }
}

static bool is_troubled(const json_t *device)
{
    const char *state = field_text(device, "state");
    return strcmp(state, progress_word(COUNT_CONFIRMED)) != 0 && strcmp(state, progress_word(COUNT_CURRENT)) != 0;
}

/* Devices that have not got it, by MAC and with why; no more than fit a screen. */
static void print_troubled(const struct progress *progress, const json_t *devices, FILE *to)
{
    size_t i, shown = 0, width = shown_width(to);
    uint64_t troubled =
        progress_devices(progress) - progress->devices[COUNT_CONFIRMED] - progress->devices[COUNT_CURRENT];
    const json_t *device;
    json_array_foreach(devices, i, device)
    {
        char start[64], why[2048];
        if (shown == TROUBLED_SHOWN || !is_troubled(device)) {
            continue;
        }
        const char *state = field_text(device, "state");
        bool not_told = strcmp(progress->state, "failed") == 0 && strcmp(state, progress_word(COUNT_SILENT)) == 0;
        why_troubled(progress, device, why, sizeof why);
        snprintf(start, sizeof start, "%s %s%s", field_text(device, "mac"), not_told ? PROGRESS_NOT_TOLD : state,
                 why[0] != '\0' ? ": " : "");
        fputs("  ", to);
        shown_print(to, start);
        shown_wrapped(to, why, 2 + strlen(start), 4, width);
        fputc('\n', to);
        shown++;
    }
    if (troubled > shown) {
        fprintf(to, "  and %" PRIu64 " more\n", troubled - shown);
    }
}

/* The devices one by one, where any has not got it or a program asks about those that were named; NULL else. */
static json_t *ask_devices(struct follow *follow)
{
    const struct progress *progress = &follow->progress;
    uint64_t good = progress->devices[COUNT_CONFIRMED] + progress->devices[COUNT_CURRENT];
    json_t *whole = NULL;
    if (progress_devices(progress) == good && !(follow->cli->json && follow->named)) {
        return NULL;
    }
    struct api_path path = follow->path;
    api_path_query(&path, "devices", "yes");
    if (api_get_all(follow->cli->api, &path, "device_list", &whole) != API_DONE) {
        return NULL; /* the counts are there */
    }
    json_t *devices = json_incref(json_object_get(whole, "device_list"));
    json_decref(whole);
    return devices;
}

/* The server's last word; why it is no success, where that is judged here, and the devices that were named. */
static void print_document(struct follow *follow, json_t *devices, const char *message)
{
    if (message[0] != '\0' && field_text(follow->rollout, "why")[0] == '\0') {
        json_object_set_new(follow->rollout, "why", must(json_string(message)));
    }
    if (follow->named && devices != NULL) {
        json_object_set(follow->rollout, "device_list", devices);
    }
    cli_print_json(follow->rollout);
}

static enum cli_exit finish(struct follow *follow)
{
    char message[4096], remedy[sizeof message], summary[1024];
    enum cli_exit code = follow_judge(&follow->progress, follow->named, message, remedy, sizeof message);
    json_t *devices = ask_devices(follow);
    if (follow->cli->json) {
        print_document(follow, devices, message);
    } else {
        progress_summary(&follow->progress, summary, sizeof summary);
        shown_wrapped(stdout, summary, 0, 2, shown_width(stdout)); /* escaped already: printable stays */
        putchar('\n');
    }
    if (code != CLI_DONE) {
        shown_note(follow->cli->program, message);
        print_troubled(&follow->progress, devices, stderr);
        shown_note("  remedy", remedy);
    } else if (!follow->cli->json && devices != NULL) {
        print_troubled(&follow->progress, devices, stdout);
    }
    json_decref(devices);
    return code;
}

static enum cli_exit finish_interrupted(struct follow *follow)
{
    char message[128];
    if (follow->cli->json) {
        cli_print_json(follow->rollout);
    }
    snprintf(message, sizeof message, "the rollout %s goes on without being watched", follow->progress.id);
    shown_problem(follow->cli->program, message, "");
    return CLI_DONE;
}

enum cli_exit follow_rollout(struct cli *cli, json_t *rollout)
{
    struct follow follow = { .cli = cli, .named = args_has(cli->args, "to") };
    struct sigaction action = { .sa_handler = on_interrupt }; /* no SA_RESTART: it ends the waiting */
    sigaction(SIGINT, &action, NULL);
    follow.is_live = !cli->json && live_begin(&follow.live, stdout);
    api_path_begin(&follow.path, "/api/v1/rollouts");
    api_path_name(&follow.path, field_text(rollout, "id"));
    api_set_patience(cli->api, CALL_PATIENCE_MS);
    api_set_stop(cli->api, is_interrupted, NULL);
    take_news(&follow, rollout);
    enum cli_exit code = CLI_DONE;
    bool sense = true;
    show(&follow);
    while (sense && !interrupted && !progress_is_over(&follow.progress)) {
        wait_ms(follow.is_live ? LOOK_LIVE_MS : LOOK_LINES_MS);
        sense = interrupted || look(&follow, &code);
        show(&follow);
    }
    if (sense) {
        code = progress_is_over(&follow.progress) ? finish(&follow) : finish_interrupted(&follow);
    }
    json_decref(follow.rollout);
    return code;
}
