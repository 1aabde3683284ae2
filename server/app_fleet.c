/* The fleet's memory in the running server: read at the start, acted upon, written down behind, and put away at the
 * end. A store that cannot be read ends the start; one that fails later is said loudly, and the server goes on from
 * memory.
 */
#include "server/app_parts.h"

#include "base/log.h"

#include <stdio.h>

#define FLUSH_MS      500
#define CLOSE_WAIT_MS 5000

/* --- what rollouts do --------------------------------------------------------------------------------------------- */

static void on_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct app *app = owner;
    trigger_tell(&app->trigger, rollout, device, attempt);
}

static void on_withdraw(void *owner, struct rollout *rollout)
{
    struct app *app = owner;
    trigger_withdraw(&app->trigger, rollout);
}

static void log_state(const struct rollout *rollout)
{
    struct log_line line;
    bool trouble = rollout->state == ROLLOUT_HALTED || rollout->state == ROLLOUT_ABORTED;
    log_begin(&line, trouble ? LOG_WARN : LOG_INFO, "rollout");
    log_text(&line, "id", rollout->id);
    log_text(&line, "type", rollout->order.target.type);
    log_text(&line, "to", rollout->order.target.version);
    log_text(&line, "state", rollout_state_word(rollout->state));
    if (rollout->why[0] != '\0') {
        log_text(&line, "why", rollout->why);
    }
    for (int state = 0; state < ROLLOUT_DEVICE_STATES; state++) {
        log_number(&line, rollout_device_word((enum rollout_device_state)state), (int64_t)rollout->devices[state]);
    }
    log_number(&line, "bytes", (int64_t)rollout->bytes);
    log_end(&line);
}

/* A store that fails makes nobody wait. */
static uint64_t ticket_or_none(struct app *app, uint64_t ticket)
{
    app->last_ticket = ticket != JOURNAL_REFUSED && ticket > app->last_ticket ? ticket : app->last_ticket;
    bool failing = app->store != NULL && store_queue_view(app->store)->health == STORE_FAILING;
    return ticket == JOURNAL_REFUSED || failing ? 0 : ticket;
}

static uint64_t on_changed(void *owner, const struct rollout *rollout)
{
    struct app *app = owner;
    if (!rollout->word_only) {
        log_state(rollout);
    }
    return ticket_or_none(app, journal_rollout(app->fleet.journal, rollout, false));
}

static uint64_t on_member_changed(void *owner, const struct rollout *rollout, const struct rollout_member *member)
{
    struct app *app = owner;
    return ticket_or_none(app, journal_member(app->fleet.journal, rollout, member));
}

static void on_forgotten(void *owner, const struct rollout *rollout)
{
    struct app *app = owner;
    (void)journal_rollout_gone(app->fleet.journal, rollout->id);
}

static void on_noted(void *owner, const struct mac *device, const char *word, const char *text,
                     const struct moment *now)
{
    const struct app *app = owner;
    journal_event(app->fleet.journal, device, now, word, "%s", text);
}

static bool in_group(void *owner, const struct mac *mac, const char *group)
{
    const struct app *app = owner;
    return policy_in_group(policies_find(app->fleet.policies, mac), words_find(app->fleet.words, slice_of(group)));
}

/* --- the store -----------------------------------------------------------------------------------------------------
 */

static void on_store_health(void *owner, const struct store_view *view)
{
    struct app *app = owner;
    struct moment now = clock_moment(&app->loop);
    if (view->health == STORE_FAILING) {
        LOG_EVENT(LOG_ERROR, "store_failing", "why", view->why, "effect",
                  "the server goes on from memory; orders that cannot be written down are refused");
        rollouts_written(app->fleet.rollouts, app->last_ticket, &now); /* nobody waits for it */
    } else if (view->health == STORE_AILING) {
        LOG_EVENT(LOG_ERROR, "store_ailing", "why", view->why, "effect",
                  "all is written down, but its log grows until that is mended");
    } else {
        LOG_EVENT(LOG_INFO, "store_good", "effect", "what was held in memory is being written");
    }
}

static void on_store_written(void *owner, uint64_t ticket)
{
    struct app *app = owner;
    struct moment now = clock_moment(&app->loop);
    rollouts_written(app->fleet.rollouts, ticket, &now);
    if (devices_dirty_count(app->fleet.devices) >= STORE_BATCH_MAX) { /* a fleet faster than the timer */
        journal_flush(app->fleet.journal, app->fleet.rollouts);
    }
}

static int open_store(struct app *app)
{
    char message[CONFIG_TEXT_MAX + 600];
    struct moment now = clock_moment(&app->loop);
    struct store_queue_events events = { .on_health = on_store_health, .on_written = on_store_written, .owner = app };
    struct recall recall = fleet_recall(&app->fleet, &now);
    if (app->config.store == CONFIG_STORE_NONE) {
        return 0;
    }
    app->store = store_queue_open(&app->loop, &store_sqlite, app->config.state, &events, recall_row, &recall, message,
                                  sizeof message);
    const struct rollout *rollout = NULL;
    while ((rollout = rollouts_next(app->fleet.rollouts, rollout)) != NULL) { /* which counts, and counted, by itself */
        image_failures_forget(app->fleet.failures, rollout->order.target.run_md5[0]);
    }
    return app->store != NULL ? 0 : app_say_error(message);
}

static void on_flush(uv_timer_t *timer)
{
    struct app *app = timer->data;
    journal_flush(app->fleet.journal, app->fleet.rollouts);
}

/* --- from start to end ----------------------------------------------------------------------------------------------
 */

int app_fleet_open(struct app *app)
{
    struct rollout_effects effects = { .trigger = on_trigger,
                                       .withdraw = on_withdraw,
                                       .changed = on_changed,
                                       .member_changed = on_member_changed,
                                       .forgotten = on_forgotten,
                                       .noted = on_noted,
                                       .in_group = in_group,
                                       .owner = app };
    struct fleet *fleet = &app->fleet;
    fleet_init(fleet, DEVICES_MAX, &effects);
    fleet->failures = image_failures_new();
    if (open_store(app) != 0) {
        return 1;
    }
    fleet->journal = journal_new(fleet->devices, fleet->policies, fleet->never_again, app->store);
    uv_timer_init(&app->loop, &app->flush);
    app->flush.data = app;
    uv_timer_start(&app->flush, on_flush, FLUSH_MS, FLUSH_MS);
    return 0;
}

static void on_store_closed(void *owner)
{
    struct app *app = owner;
    app->store = NULL;
    app_part_closed(app);
}

/* Behind the last check-in: what is still to be written goes out, as far as there is room. */
void app_fleet_stop(struct app *app)
{
    uv_close((uv_handle_t *)&app->flush, NULL);
    if (app->store == NULL) {
        app_part_closed(app);
        return;
    }
    size_t dirty;
    do { /* a piece at a time */
        dirty = devices_dirty_count(app->fleet.devices);
        journal_flush(app->fleet.journal, app->fleet.rollouts);
    } while (devices_dirty_count(app->fleet.devices) < dirty);
    journal_end(app->fleet.journal);
    store_queue_close(app->store, CLOSE_WAIT_MS, on_store_closed, app);
}
