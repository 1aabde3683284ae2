/* Rollouts through thousands of histories in virtual time, with devices that fail in every way there is, a store that
 * lags, a broker that dawdles, an operator who interferes, and a process that is killed. The seed of one that fails
 * is printed; UPDRAFT_SEED=n runs it again.
 *
 * What must hold whatever happens:
 *  - nobody is told, or served, whom the order does not mean;
 *  - never more are under way than the window allows, also over a crash (but for those that were told in the turn in
 *    which a slot came free, where that was not written down any more: these ask, and are held back);
 *  - nobody is told after a halt, a pause or the end, and none but canaries before these are confirmed;
 *  - a command repeated after a crash has the id it had; a new one follows only when the one before has come to its
 * end;
 *  - no device takes the image more often than ROLLOUT_ATTEMPTS_MAX and once more for each crash;
 *  - nothing waits for ever: in the end the rollout is over, and each device is in exactly one state, which is a final
 *    one or SILENT.
 */
#include "fleet/rollout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEVICES_MAX_ 120
#define HISTORIES    3000
#define DAY_S        86400
#define WRITES_MAX   65536

/*    name: what goes wrong with a device */
enum habit {
    GOOD,
    CUT_ONCE,
    CUT_ALWAYS,
    OLD_BUILD,  /* does not flash */
    ROLLS_BACK, /* runs it, then the old one again */
    BRICKS,     /* takes it and never comes back */
    DEAF,       /* never hears a command; asks by itself now and then */
    ABSENT,     /* never comes at all */
    SAYS_SO,    /* fails, and reports it over MQTT */
    RUNS_IT,    /* already */
    WRONG_CHIP,
    HABITS
};

enum doing { IDLE, HEARD, DOWNLOADING, REBOOTING };

struct one {
    struct mac mac;
    uint64_t site;
    enum habit habit;
    bool selected, known;
    bool runs_new, owes; /* owes: took all of it and has not been judged */
    enum doing doing;
    uint64_t due_ms, poll_ms, poll_every_ms;
    unsigned cuts, takes, attempts; /* attempts: the highest it was told */
    bool attempt_open;              /* told, and the server has not ended the attempt */
    uint64_t back_ms;               /* rolls back then */
};

struct write {
    uint64_t ticket;
    bool of_rollout;
    struct rollout rollout;
    struct rollout_member member;
    char why[120];
};

struct command {
    struct mac mac;
    bool to_type, open;
    unsigned attempt;
    uint64_t due_ms;
};

struct history {
    uint64_t random;
    struct moment now;
    struct rollouts *rollouts;
    struct rollout *rollout;
    struct rollout_order order;
    struct one devices[DEVICES_MAX_];
    size_t count;
    bool type_topic, device_topic;
    struct write *writes;
    size_t write_count;
    uint64_t ticket, flushed, acknowledged_ticket;
    struct command commands[4096];
    size_t command_count;
    unsigned crashes;
    size_t frees_lost; /* slots that came free, and were taken at once by the next, before that was written down */
};

static uint64_t next_random(struct history *history)
{
    history->random ^= history->random << 13; /* xorshift64, Marsaglia 2003 */
    history->random ^= history->random >> 7;
    history->random ^= history->random << 17;
    return history->random;
}

static unsigned below(struct history *history, unsigned n)
{
    return (unsigned)(next_random(history) >> 20) % n;
}

static struct one *find(struct history *history, const struct mac *mac)
{
    for (size_t i = 0; i < history->count; i++) {
        if (memcmp(&history->devices[i].mac, mac, sizeof *mac) == 0) {
            return &history->devices[i];
        }
    }
    fail_msg("a stranger");
    return NULL;
}

/* Told, and the server has not seen the end of it: over a crash, too. */
static size_t count_open(const struct history *history)
{
    size_t count = 0;
    for (size_t i = 0; i < history->count; i++) {
        count += history->devices[i].attempt_open;
    }
    return count;
}

/* --- the world's side of the effects -------------------------------------------------------------------------------
 */

static void on_trigger(void *owner, struct rollout *rollout, const struct mac *device, unsigned attempt)
{
    struct history *history = owner;
    assert_true(rollout->state == ROLLOUT_CANARY || rollout->state == ROLLOUT_RUNNING);
    assert_true(history->command_count < 4096);
    struct command *command = &history->commands[history->command_count++];
    *command = (struct command){ .to_type = device == NULL, .attempt = attempt, .open = true };
    command->due_ms = history->now.ms + below(history, 10) * (below(history, 20) == 0 ? 20000u : 100u);
    if (device == NULL) {
        assert_true(history->type_topic);
        return;
    }
    struct one *one = find(history, device);
    struct rollout_member member;
    command->mac = *device;
    assert_true(history->device_topic && one->selected);
    assert_true(rollout_member(rollout, device, &member) && member.state == ROLLOUT_DEVICE_TRIGGERED);
    assert_true(rollout->state != ROLLOUT_CANARY || member.canary);
    assert_true(attempt == one->attempts || rollout->in_flight <= window_size(&rollout->window));
    /* a repeated command is the same; a new one only when the one before has ended */
    assert_true(attempt == one->attempts || (attempt > one->attempts && !one->attempt_open));
    assert_true(attempt != one->attempts || history->crashes > 0 || !one->attempt_open);
    one->attempts = attempt;
    one->attempt_open = true;
    size_t most = rollout->order.in_flight + history->frees_lost;
    assert_true(rollout->order.in_flight == 0 || count_open(history) <= most);
}

static void on_withdraw(void *owner, struct rollout *rollout)
{
    (void)owner;
    (void)rollout;
}

static struct write *add_write(struct history *history)
{
    assert_true(history->write_count < WRITES_MAX);
    struct write *write = &history->writes[history->write_count++];
    memset(write, 0, sizeof *write);
    write->ticket = ++history->ticket;
    return write;
}

static uint64_t on_changed(void *owner, const struct rollout *rollout)
{
    struct write *write = add_write(owner);
    write->of_rollout = true;
    write->rollout = *rollout;
    write->rollout.table = NULL;
    return write->ticket;
}

static uint64_t on_member(void *owner, const struct rollout *rollout, const struct rollout_member *member)
{
    struct history *history = owner;
    struct write *write = add_write(history);
    (void)rollout;
    write->member = *member;
    snprintf(write->why, sizeof write->why, "%s", member->why);
    struct one *one = find(history, &member->mac);
    bool slot = member->state == ROLLOUT_DEVICE_TRIGGERED || member->state == ROLLOUT_DEVICE_DOWNLOADING ||
                member->state == ROLLOUT_DEVICE_FLASHED;
    one->attempt_open = one->attempt_open && slot;
    return write->ticket;
}

static bool on_group(void *owner, const struct mac *mac, const char *group)
{
    (void)group;
    return find(owner, mac)->selected;
}

static const struct rollout_effects effects = { .trigger = on_trigger,
                                                .withdraw = on_withdraw,
                                                .changed = on_changed,
                                                .member_changed = on_member,
                                                .in_group = on_group };

/* --- devices --------------------------------------------------------------------------------------------------------
 */

static const uint8_t file_md5[16] = { 7 };

static bool is_fit(const struct one *one)
{
    return one->habit != WRONG_CHIP;
}

/* As the server does: whose word, may it, then what its coming means. */
static void ask(struct history *history, struct one *one)
{
    struct slice type = slice_of("porch");
    const struct rollout *word = rollouts_for(history->rollouts, &one->mac, type, false, false);
    struct rollout_fact fact = { .mac = one->mac, .type = type, .site = one->site, .runs_target = one->runs_new };
    struct rollout_permission permission = { .granted = false };
    if (word != NULL) {
        assert_true(one->selected || rollout_is_over(word));
        rollout_permit(word, &one->mac, one->site, &permission);
    }
    fact.failed = one->owes && !one->runs_new ? "came back with the old build" : NULL;
    fact.served = permission.granted && !one->runs_new && is_fit(one) && fact.failed == NULL;
    fact.withheld = !one->runs_new && !is_fit(one) ? "wrong-chip" : NULL;
    one->owes = false;
    one->doing = IDLE;
    if (rollouts_following(history->rollouts, &one->mac, type, false) != NULL) {
        rollouts_came_after(history->rollouts, &fact, &history->now);
    }
    bool under_way = word != NULL && !rollout_is_over(word);
    rollouts_checked_in(history->rollouts, &fact, &history->now);
    if (fact.served && under_way) {
        struct rollout_member member;
        assert_true(history->rollout->state != ROLLOUT_CANARY ||
                    (rollout_member(history->rollout, &one->mac, &member) && member.canary));
        size_t before = history->rollout->in_flight;
        rollouts_transfer_begins(history->rollouts, &one->mac, file_md5, &history->now);
        size_t after = history->rollout->in_flight; /* a window that shrank does not call back who is under way */
        assert_true(after <= before || after <= window_size(&history->rollout->window));
        one->takes++;
        assert_true(one->takes <= ROLLOUT_ATTEMPTS_MAX * 2 + 2 * history->crashes);
        one->doing = DOWNLOADING;
        one->due_ms = history->now.ms + 1000 + below(history, 20) * 1000;
    }
}

static void end_download(struct history *history, struct one *one)
{
    bool cut = one->habit == CUT_ALWAYS || (one->habit == CUT_ONCE && one->cuts == 0);
    one->doing = cut ? IDLE : REBOOTING;
    one->cuts += cut;
    one->owes = !cut;
    one->due_ms = history->now.ms + 2000 + below(history, 10) * 1000;
    rollouts_transfer_ended(history->rollouts, &one->mac, file_md5, !cut, 1000, 900, "cut at 50 %", &history->now);
}

static void come_back(struct history *history, struct one *one)
{
    switch (one->habit) {
    case BRICKS:
        one->doing = IDLE;
        one->habit = ABSENT;
        return;
    case SAYS_SO:
        one->owes = false;
        one->doing = IDLE;
        rollouts_reported_failure(history->rollouts, &one->mac, "flash write error", &history->now);
        return;
    case OLD_BUILD:
        break;
    case ROLLS_BACK:
        one->runs_new = one->back_ms == 0;
        one->back_ms = history->now.ms + 60000;
        break;
    default:
        one->runs_new = true;
    }
    ask(history, one);
}

static void live(struct history *history, struct one *one)
{
    uint64_t now = history->now.ms;
    if (one->habit == ABSENT) {
        return;
    }
    if (one->habit == ROLLS_BACK && one->back_ms > 0 && now >= one->back_ms && one->runs_new) {
        one->runs_new = false;
        one->owes = true;
        ask(history, one);
    } else if (one->doing != IDLE && now >= one->due_ms) {
        one->doing == DOWNLOADING ? end_download(history, one)
        : one->doing == REBOOTING ? come_back(history, one)
                                  : ask(history, one);
    } else if (one->doing == IDLE && now >= one->poll_ms) {
        one->poll_ms = now + one->poll_every_ms;
        ask(history, one);
    }
}

/* --- the broker, the store, the operator, the end of the process
 * ------------------------------------------------------ */

static void deliver(struct history *history)
{
    for (size_t i = 0; i < history->command_count; i++) {
        struct command *command = &history->commands[i];
        if (!command->open || command->due_ms > history->now.ms) {
            continue;
        }
        command->open = false;
        bool busy = below(history, 100) == 0; /* no room for it on our side: it never left */
        for (size_t k = 0; k < history->count; k++) {
            struct one *one = &history->devices[k];
            bool hears = !busy && one->habit != DEAF && one->doing == IDLE &&
                         (command->to_type || memcmp(&one->mac, &command->mac, sizeof one->mac) == 0);
            if (hears) {
                one->doing = HEARD;
                one->due_ms = history->now.ms + below(history, 3000);
            }
        }
        bool refused = busy || below(history, 200) == 0;
        rollouts_told(history->rollout, command->to_type ? NULL : &command->mac,
                      busy      ? STATUS_BUSY
                      : refused ? STATUS_DENIED
                                : STATUS_OK,
                      refused ? "denied" : "", &history->now);
    }
    while (history->command_count > 0 && !history->commands[history->command_count - 1].open) {
        history->command_count--;
    }
}

static void flush(struct history *history)
{
    if (below(history, 3) > 0) {
        history->flushed = history->ticket;
    }
    if (history->flushed > history->acknowledged_ticket) {
        history->acknowledged_ticket = history->flushed;
        rollouts_written(history->rollouts, history->flushed, &history->now);
    }
}

static void join_all(struct history *history)
{
    for (size_t i = 0; i < history->count; i++) {
        const struct one *one = &history->devices[i];
        struct rollout_joiner joiner = { .mac = one->mac, .site = one->site };
        if (one->known && one->selected) {
            joiner.skip_why = one->runs_new ? "runs it already" : !is_fit(one) ? "wrong-chip" : NULL;
            rollout_join(history->rollout, &joiner, &history->now);
        }
    }
    rollout_start(history->rollout, history->type_topic, history->device_topic, &history->now);
}

/* What was written of each device last, up to the last flush, in the order in which they were armed. */
static size_t read_members(struct history *history, struct rollout *rollout, struct rollout_member *members)
{
    size_t count = 0;
    bool found = false;
    for (size_t i = 0; i < history->write_count && history->writes[i].ticket <= history->flushed; i++) {
        const struct write *write = &history->writes[i];
        size_t k = 0;
        if (write->of_rollout) {
            *rollout = write->rollout;
            found = true;
            continue;
        }
        while (k < count && memcmp(&members[k].mac, &write->member.mac, sizeof(struct mac)) != 0) {
            k++;
        }
        members[k] = write->member;
        members[k].why = write->why;
        count += k == count;
    }
    assert_true(found);
    return count;
}

static int by_armed(const void *a, const void *b)
{
    const struct rollout_member *left = a, *right = b;
    return (left->armed > right->armed) - (left->armed < right->armed);
}

static void crash(struct history *history)
{
    struct rollout rollout;
    struct rollout_member members[DEVICES_MAX_];
    rollouts_free(history->rollouts);
    size_t count = read_members(history, &rollout, members);
    qsort(members, count, sizeof members[0], by_armed);
    while (history->write_count > 0 && history->writes[history->write_count - 1].ticket > history->flushed) {
        history->write_count--;
    }
    history->crashes++;
    history->command_count = 0;
    for (size_t i = 0; i < history->count; i++) { /* broken off: they ask again by and by */
        struct one *one = &history->devices[i];
        one->doing = one->doing == DOWNLOADING ? IDLE : one->doing;
    }
    struct rollout_effects own = effects;
    own.owner = history;
    history->rollouts = rollouts_new(&own);
    history->rollout = rollouts_restore(history->rollouts, &rollout, &history->now);
    for (size_t i = 0; i < count; i++) {
        bool slot = members[i].state == ROLLOUT_DEVICE_TRIGGERED || members[i].state == ROLLOUT_DEVICE_DOWNLOADING ||
                    members[i].state == ROLLOUT_DEVICE_FLASHED;
        history->frees_lost += slot && !find(history, &members[i].mac)->attempt_open;
        rollout_restore_member(history->rollout, &members[i], find(history, &members[i].mac)->site, &history->now);
    }
    if (!rollout_is_over(history->rollout)) {
        join_all(history);
    }
}

static void interfere(struct history *history)
{
    const char *why;
    unsigned what = below(history, 400);
    if (history->rollout->state == ROLLOUT_HALTED || history->rollout->state == ROLLOUT_PAUSED) {
        if (what < 20) {
            (void)rollout_resume(history->rollout, &history->now, &why);
        } else if (what == 20) {
            (void)rollout_abort(history->rollout, "by an operator", &history->now, &why);
        }
    } else if (what == 0) {
        (void)rollout_pause(history->rollout, &history->now, &why);
    } else if (what == 1) {
        (void)rollout_abort(history->rollout, "by an operator", &history->now, &why);
    }
}

/* --- a history ------------------------------------------------------------------------------------------------------
 */

static void people(struct history *history)
{
    unsigned trouble = below(history, 4) == 0 ? 2 : 20; /* one device of so many misbehaves */
    history->count = 1 + below(history, below(history, 3) == 0 ? DEVICES_MAX_ : 12);
    for (size_t i = 0; i < history->count; i++) {
        struct one *one = &history->devices[i];
        *one = (struct one){ .mac = { { 0x5c, 0xcf, 0x7f, 0, 0, (uint8_t)i } }, .site = below(history, 5) };
        one->habit = below(history, trouble) == 0 ? (enum habit)below(history, HABITS) : GOOD;
        one->runs_new = one->habit == RUNS_IT;
        one->poll_every_ms = 30000 + below(history, 600) * 1000;
        one->poll_ms = history->now.ms + below(history, 600000);
        one->known = below(history, 30) > 0;
        one->selected = true;
    }
}

static void order(struct history *history)
{
    struct rollout_order *the = &history->order;
    *the = (struct rollout_order){ .percent = 100,
                                   .max_failures = below(history, 60),
                                   .timeout_ms = 60000,
                                   .reboot_ms = 120000,
                                   .broker_ms = 600000 };
    snprintf(the->target.type, sizeof the->target.type, "porch");
    the->target.image_count = 1;
    memcpy(the->target.md5[0], file_md5, 16);
    the->in_flight = below(history, 2) * (1 + below(history, 20));
    the->canary = below(history, 3) == 0 ? 1 + below(history, 5) : 0;
    the->site_in_flight = below(history, 4) == 0 ? 1 + below(history, 4) : 0;
    the->window_s = below(history, 3) == 0 ? below(history, 30) : 0;
    if (below(history, 4) == 0) {
        the->percent = 1 + below(history, 100);
    } else if (below(history, 4) == 0) {
        snprintf(the->group, sizeof the->group, "upstairs");
    }
    history->type_topic = below(history, 5) > 0;
    history->device_topic = below(history, 8) > 0; /* neither: there is no broker */
}

static void begin(struct history *history)
{
    struct rollout_effects own = effects;
    own.owner = history;
    people(history);
    order(history);
    history->rollouts = rollouts_new(&own);
    for (size_t i = 0; i < history->count && history->order.group[0] != '\0'; i++) {
        history->devices[i].selected = below(history, 2) > 0;
    }
    history->rollout = rollouts_begin(history->rollouts, "00112233445566aa", &history->order, &history->now);
    for (size_t i = 0; i < history->count; i++) {
        history->devices[i].selected = rollout_selects(history->rollouts, history->rollout, &history->devices[i].mac);
    }
    history->flushed = history->ticket; /* before the operator is answered */
    join_all(history);
}

static void check_end(struct history *history)
{
    const struct rollout *rollout = history->rollout;
    size_t sum = 0;
    for (size_t i = 0; i < ROLLOUT_DEVICE_STATES; i++) {
        sum += rollout->devices[i];
    }
    assert_int_equal(sum, rollout->members);
    assert_int_equal(rollout->in_flight, 0);
    assert_int_equal(rollout->devices[ROLLOUT_DEVICE_QUEUED], 0);
}

/* After the end, too: those who were told, or were at it, are followed to theirs. */
static bool goes_on(const struct rollout *rollout)
{
    bool over = rollout_is_over(rollout);
    assert_true(!over || rollout->devices[ROLLOUT_DEVICE_QUEUED] == 0);
    return !over || rollout->in_flight > 0;
}

static void run(uint64_t seed, struct write *writes)
{
    struct history *history = calloc(1, sizeof *history);
    history->writes = writes;
    history->random = seed * 0x9e3779b97f4a7c15u + 1;
    history->now = (struct moment){ .ms = 1000000, .unix_s = 1000000000 };
    unsigned crashes = below(history, 3) == 0 ? 1 + below(history, 10) : 0;
    begin(history);
    for (unsigned second = 0; goes_on(history->rollout); second++) {
        uint64_t step_ms = second < 7200 ? 1000 : 600000; /* then hours go by */
        history->now.ms += step_ms;
        history->now.unix_s += (uint32_t)(step_ms / 1000);
        assert_true(second < 7200 + 40 * DAY_S / 600); /* nothing waits for ever */
        for (size_t i = 0; i < history->count; i++) {
            live(history, &history->devices[i]);
        }
        deliver(history);
        flush(history);
        interfere(history);
        rollouts_tick(history->rollouts, &history->now);
        if (second % 16 == 0) {
            rollout_check(history->rollout);
        }
        if (crashes > 0 && below(history, 60) == 0 && goes_on(history->rollout)) {
            crashes--;
            crash(history);
        }
    }
    check_end(history);
    rollouts_free(history->rollouts);
    free(history);
}

static uint64_t running_seed;

static void test_histories(void **state)
{
    (void)state;
    const char *chosen = getenv("UPDRAFT_SEED");
    struct write *writes = malloc(WRITES_MAX * sizeof *writes);
    uint64_t first = chosen != NULL ? strtoull(chosen, NULL, 10) : 1;
    for (uint64_t seed = first; seed < first + (chosen != NULL ? 1 : HISTORIES); seed++) {
        running_seed = seed;
        run(seed, writes);
    }
    free(writes);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_histories) };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed != 0) {
        fprintf(stderr, "UPDRAFT_SEED=%llu runs it again\n", (unsigned long long)running_seed);
    }
    return failed;
}
