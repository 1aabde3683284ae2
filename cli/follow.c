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

struct follow {
    struct cli *cli;
    struct api_path path;
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

/* "44 run it already, 3 pinned". */
static void read_skipped(const json_t *skipped, struct progress *progress)
{
    const json_t *one;
    char *to = progress->skipped_why;
    size_t i, used = 0, size = sizeof progress->skipped_why;
    json_array_foreach(skipped, i, one)
    {
        char reason[80];
        uint64_t count = field_number(one, "count");
        bool runs_it = strcmp(field_text(one, "reason"), FOLLOW_RUNS_IT) == 0;
        shown_text(field_text(one, "reason"), reason, sizeof reason);
        progress->all_run_it = runs_it && json_array_size(skipped) == 1;
        if (used < size) {
            used += (size_t)snprintf(to + used, size - used, "%s%" PRIu64 " %s", used > 0 ? ", " : "", count,
                                     runs_it && count > 1 ? "run it already" : reason);
        }
    }
}

void follow_read(const json_t *rollout, struct progress *progress)
{
    memset(progress, 0, sizeof *progress);
    const json_t *devices = json_object_get(rollout, "devices"), *commands = json_object_get(rollout, "commands");
    const json_t *broker = json_object_get(rollout, "broker"), *window = json_object_get(rollout, "window");
    const json_t *canaries = json_object_get(rollout, "canaries"), *left = json_object_get(rollout, "seconds_left");
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
    read_skipped(json_object_get(rollout, "skipped"), progress);
    progress->members = field_number(devices, "members");
    progress->anonymous = field_number(devices, "anonymous");
    progress->canaries = field_number(canaries, "members");
    progress->canaries_confirmed = field_number(canaries, "confirmed");
    progress->window = field_number(window, "size");
    progress->in_flight = field_number(window, "in_flight");
    progress->adaptive = field_true(window, "adaptive");
    progress->awaits_devices = field_true(rollout, "awaits_devices");
    progress->superseded = field_text(rollout, "superseded_by")[0] != '\0';
    progress->failures = field_number(rollout, "failures");
    progress->max_failures = field_number(json_object_get(rollout, "order"), "max_failures");
    progress->commands = field_number(commands, "sent");
    progress->acknowledged = field_number(commands, "acknowledged");
    progress->bytes = field_number(rollout, "bytes");
    progress->bytes_expected = field_number(rollout, "bytes_expected");
    progress->elapsed_s = field_real(rollout, "elapsed_s");
    progress->seconds_left = json_is_integer(left) ? (int64_t)field_number(rollout, "seconds_left") : -1;
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
            follow->cli, problem->code,
            "the server no longer knows this rollout: it was started anew meanwhile, without its memory",
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

/* A halted rollout waits for an operator, one of an unknown type for days: so there is nothing to wait for here. */
static bool is_at_its_end(const struct follow *follow)
{
    return progress_is_over(&follow->progress) || progress_is(&follow->progress, "halted") ||
           progress_awaits_strangers(&follow->progress);
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
    struct follow follow = { .cli = cli };
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
    while (sense && !interrupted && !is_at_its_end(&follow)) {
        wait_ms(follow.is_live ? LOOK_LIVE_MS : LOOK_LINES_MS);
        sense = interrupted || look(&follow, &code);
        show(&follow);
    }
    if (sense) {
        code = is_at_its_end(&follow) ? follow_end(cli, &follow.path, follow.rollout) : finish_interrupted(&follow);
    }
    json_decref(follow.rollout);
    return code;
}
