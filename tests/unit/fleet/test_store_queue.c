/* Between the loop and the store: order, tickets, the bound, and what becomes of it all while the store fails. A
 * mistake here is an operator who was told "done" for what is lost, or a server whose memory a full disk fills.
 *
 * Most of it runs on a store in memory that does as it is told; the last tests on SQLite, in a process that is killed.
 */
#include "base/mailbox.h"
#include "fleet/store_queue.h"
#include "tests/unit/fleet/store_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#if defined(__SANITIZE_THREAD__)
#define KILLS 60 /* a process under it starts slowly */
#else
#define KILLS 300
#endif

/* --- a store in memory --------------------------------------------------------------------------------------------*/

#define KEPT_MAX 200000

/* Written by the writer's thread, read by the test when that has nothing to do. */
static struct {
    uv_mutex_t mutex;
    uint32_t kept[KEPT_MAX]; /* unix_s of each change, in the order they were written */
    size_t count;
    size_t batches, durable_batches, largest;
    atomic_bool fails, ails;
    atomic_bool hangs, inside; /* a call does not come back as long as it does; whether one is in it */
    atomic_uint why;           /* a number in the message */
    atomic_uint slow_ms;       /* a batch takes */
    atomic_uint attempts;      /* writes, good or bad */
    atomic_uint untidy;        /* pieces of what is left to do */
    atomic_bool closed;
} memory;

static enum status memory_open(const char *dir, void **store, char *message, size_t size)
{
    if (strcmp(dir, "refused") == 0) {
        snprintf(message, size, "refused: as the test says");
        return STATUS_CORRUPT;
    }
    *store = &memory;
    return STATUS_OK;
}

static enum status memory_load(void *store, store_row_fn on_row, void *owner, char *message, size_t size)
{
    (void)store;
    struct store_change row = { .kind = STORE_EVENT };
    if (owner != NULL && !on_row(owner, &row)) {
        snprintf(message, size, "the reader said stop");
        return STATUS_IO;
    }
    return STATUS_OK;
}

static void memory_hang(void)
{
    while (atomic_load(&memory.hangs)) {
        atomic_store(&memory.inside, true);
        uv_sleep(1);
    }
    atomic_store(&memory.inside, false);
}

static enum status memory_write(void *store, const struct store_change *const *changes, size_t count, bool durable,
                                char *message, size_t size)
{
    (void)store;
    atomic_fetch_add(&memory.attempts, 1);
    memory_hang();
    if (atomic_load(&memory.slow_ms) > 0) {
        uv_sleep(atomic_load(&memory.slow_ms));
    }
    if (atomic_load(&memory.fails)) {
        snprintf(message, size, "failing %u", atomic_load(&memory.why));
        return STATUS_IO;
    }
    uv_mutex_lock(&memory.mutex);
    for (size_t i = 0; i < count; i++) {
        assert_true(memory.count < KEPT_MAX);
        memory.kept[memory.count++] = changes[i]->row.event.unix_s;
    }
    memory.batches++;
    memory.durable_batches += durable;
    memory.largest = count > memory.largest ? count : memory.largest;
    uv_mutex_unlock(&memory.mutex);
    if (atomic_load(&memory.ails)) {
        snprintf(message, size, "ailing");
    }
    return STATUS_OK;
}

/* One event, which says how many changes had been written when it was read. */
static enum status memory_events(void *store, const struct mac *mac, struct store_event *events, size_t max,
                                 size_t *count, char *message, size_t size)
{
    (void)store;
    (void)message;
    (void)size;
    memory_hang();
    *count = max > 0 ? 1 : 0;
    if (max > 0) {
        uv_mutex_lock(&memory.mutex);
        events[0] = (struct store_event){ .mac = *mac, .unix_s = (uint32_t)memory.count };
        uv_mutex_unlock(&memory.mutex);
    }
    return STATUS_OK;
}

static bool memory_tidy(void *store)
{
    (void)store;
    if (atomic_load(&memory.untidy) > 0) {
        atomic_fetch_sub(&memory.untidy, 1);
        return true;
    }
    return false;
}

static void memory_close(void *store)
{
    (void)store;
    assert_false(atomic_exchange(&memory.closed, true));
}

static const struct store_ops in_memory = { .name = "memory",
                                            .open = memory_open,
                                            .load = memory_load,
                                            .write = memory_write,
                                            .tidy = memory_tidy,
                                            .events = memory_events,
                                            .close = memory_close };

/* --- the fixture --------------------------------------------------------------------------------------------------*/

static struct {
    uv_loop_t loop;
    struct store_queue *queue;
    uint64_t written; /* as on_written said */
    unsigned health_told;
    enum store_health health;
    char why[STORE_WHY_SIZE];
    bool closed;
} at;

static void on_health(void *owner, const struct store_view *view)
{
    assert_ptr_equal(owner, &at);
    at.health_told++;
    at.health = view->health;
    snprintf(at.why, sizeof at.why, "%s", view->why);
}

static void on_written(void *owner, uint64_t ticket)
{
    assert_ptr_equal(owner, &at);
    assert_true(ticket > at.written);
    at.written = ticket;
}

static const struct store_queue_events events = { on_health, on_written, &at };

static int set_up(void **state)
{
    char message[MESSAGE_SIZE];
    (void)state;
    memset(&memory, 0, sizeof memory);
    memset(&at, 0, sizeof at);
    assert_int_equal(uv_mutex_init(&memory.mutex), 0);
    assert_int_equal(uv_loop_init(&at.loop), 0);
    at.queue = store_queue_open(&at.loop, &in_memory, "", &events, NULL, NULL, message, sizeof message);
    assert_non_null(at.queue);
    return 0;
}

static void on_closed(void *owner)
{
    assert_ptr_equal(owner, &at);
    at.closed = true;
}

static void close_queue(uint64_t timeout_ms)
{
    store_queue_close(at.queue, timeout_ms, on_closed, &at);
    while (!at.closed) {
        (void)uv_run(&at.loop, UV_RUN_ONCE);
    }
    at.queue = NULL;
}

static int tear_down(void **state)
{
    (void)state;
    if (at.queue != NULL) {
        atomic_store(&memory.fails, false);
        atomic_store(&memory.hangs, false);
        close_queue(10000);
    }
    assert_true(atomic_load(&memory.closed));
    (void)uv_run(&at.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&at.loop), 0); /* no handle is left */
    uv_mutex_destroy(&memory.mutex);
    return 0;
}

static struct store_change *event_of(uint32_t number)
{
    struct store_change *change = store_change_new(STORE_EVENT);
    change->row.event.unix_s = number;
    return change;
}

static uint64_t put(uint32_t number, enum store_hurry hurry)
{
    return store_queue_put(at.queue, event_of(number), hurry);
}

static void run_until(bool (*done)(void), uint64_t timeout_ms)
{
    uint64_t until_ns = uv_hrtime() + timeout_ms * 1000000;
    while (!done()) {
        assert_true(uv_hrtime() < until_ns);
        (void)uv_run(&at.loop, UV_RUN_NOWAIT);
        uv_sleep(1);
    }
}

static bool nothing_waits(void)
{
    return store_queue_view(at.queue)->backlog == 0;
}

static bool is_failing(void)
{
    return at.health == STORE_FAILING;
}

static void fail_store(bool fails)
{
    atomic_store(&memory.fails, fails);
}

/* --- order --------------------------------------------------------------------------------------------------------*/

static void test_written_in_order(void **state)
{
    (void)state;
    for (uint32_t i = 1; i <= 5000; i++) {
        assert_int_equal(put(i, (enum store_hurry)(i % 3)), i); /* tickets count up */
    }
    run_until(nothing_waits, 10000);
    assert_int_equal(memory.count, 5000);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_int_equal(memory.kept[i], i + 1);
    }
    assert_int_equal(at.written, 5000);
    assert_true(memory.largest <= STORE_BATCH_MAX);
    const struct store_view *view = store_queue_view(at.queue);
    assert_int_equal(view->written, 5000);
    assert_int_equal(view->batches, memory.batches);
    assert_int_equal(view->failures, 0);
    assert_int_equal(at.health_told, 0); /* good from the start: nothing to tell */
}

/* One transaction a check-in would wear the disk out. */
static void test_the_unhurried_wait_for_company(void **state)
{
    (void)state;
    uint64_t began_ns = uv_hrtime();
    for (uint32_t i = 1; i <= 20; i++) {
        put(i, STORE_BEHIND);
        uv_sleep(1);
    }
    run_until(nothing_waits, 5000);
    assert_true(memory.batches <= 5);                 /* a busy machine may take 100 ms to give twenty */
    assert_true(uv_hrtime() - began_ns < 1000000000); /* at most 1 s late */
    assert_int_equal(memory.durable_batches, 0);
}

static bool is_tidy(void)
{
    return atomic_load(&memory.untidy) == 0;
}

/* While there is nothing to write, and nobody who writes waits for more than a piece. */
static void test_what_is_left_to_do_is_done_in_between(void **state)
{
    (void)state;
    atomic_store(&memory.untidy, 1000);
    put(1, STORE_DURABLE);
    run_until(nothing_waits, 5000);
    assert_false(is_tidy());
    atomic_store(&memory.untidy, 5);
    run_until(is_tidy, 4000); /* sooner than it looks again by itself */
    put(2, STORE_DURABLE);
    run_until(nothing_waits, 5000);
}

/* At least one of some attempts is that quick: the machine may be busy. */
#define QUICK_ATTEMPTS 20

static bool was_quick(uint64_t began_ns)
{
    return uv_hrtime() - began_ns < 90 * 1000000u; /* company is waited for 100 ms */
}

static void test_an_urgent_one_takes_the_rest_along(void **state)
{
    (void)state;
    bool quick = false;
    for (int i = 0; i < QUICK_ATTEMPTS && !quick; i++) {
        put(1, STORE_BEHIND);
        uint64_t began_ns = uv_hrtime();
        put(2, STORE_DURABLE);
        run_until(nothing_waits, 5000);
        quick = was_quick(began_ns);
    }
    assert_true(quick);
    assert_true(memory.durable_batches >= 1);
    assert_int_equal(memory.kept[0], 1);
}

static void test_a_store_that_is_refused(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE] = "";
    assert_null(store_queue_open(&at.loop, &in_memory, "refused", &events, NULL, NULL, message, sizeof message));
    assert_string_equal(message, "refused: as the test says");
}

static bool stop_reading(void *owner, const struct store_change *row)
{
    (void)row;
    *(int *)owner += 1;
    return false;
}

static void test_a_store_that_cannot_be_read(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE] = "";
    int rows = 0;
    close_queue(1000);
    atomic_store(&memory.closed, false);
    assert_null(store_queue_open(&at.loop, &in_memory, "", &events, stop_reading, &rows, message, sizeof message));
    assert_int_equal(rows, 1);
    assert_string_equal(message, "the reader said stop");
    assert_true(atomic_load(&memory.closed)); /* not left open */
}

/* --- who waits ----------------------------------------------------------------------------------------------------*/

struct answer {
    unsigned place; /* 1 = the first that was answered; 0 = not yet */
    enum status status;
    char why[100];
    size_t kept;
};

static unsigned answers;

static void on_answer(void *owner, enum status status, const char *why)
{
    struct answer *answer = owner;
    assert_int_equal(answer->place, 0); /* once */
    answer->place = ++answers;
    answer->status = status;
    snprintf(answer->why, sizeof answer->why, "%s", why);
    uv_mutex_lock(&memory.mutex);
    answer->kept = memory.count;
    uv_mutex_unlock(&memory.mutex);
}

static unsigned wanted_answers;

static bool all_answered(void)
{
    return answers >= wanted_answers;
}

static void test_answered_when_written(void **state)
{
    (void)state;
    struct answer first = { 0 }, second = { 0 }, of_nothing = { 0 }, again[QUICK_ATTEMPTS] = { 0 };
    bool quick = false;
    answers = 0;
    wanted_answers = 3;
    uint64_t one = put(1, STORE_DURABLE), two = put(2, STORE_DURABLE);
    store_queue_when(at.queue, one, 5000, on_answer, &first);
    store_queue_when(at.queue, two, 5000, on_answer, &second);
    store_queue_when(at.queue, 0, 5000, on_answer, &of_nothing);
    assert_int_equal(answers, 0); /* never from within */
    run_until(all_answered, 5000);
    assert_int_equal(first.status, STATUS_OK);
    assert_int_equal(second.status, STATUS_OK);
    assert_int_equal(of_nothing.status, STATUS_OK);
    assert_true(first.place < second.place); /* who asked first */
    assert_true(first.kept >= 1 && second.kept >= 2);
    for (int i = 0; i < QUICK_ATTEMPTS && !quick; i++) {
        wanted_answers++;
        uint64_t began_ns = uv_hrtime();
        store_queue_when(at.queue, two, 5000, on_answer, &again[i]); /* written long ago */
        assert_int_equal(again[i].place, 0);
        run_until(all_answered, 5000);
        quick = was_quick(began_ns);
    }
    assert_true(quick);
}

static void test_who_waits_in_vain_is_told_why(void **state)
{
    (void)state;
    struct answer late = { 0 }, patient = { 0 };
    answers = 0;
    wanted_answers = 1;
    fail_store(true);
    uint64_t ticket = put(1, STORE_DURABLE);
    store_queue_when(at.queue, ticket, 300, on_answer, &late);
    store_queue_when(at.queue, ticket, 20000, on_answer, &patient);
    uint64_t began_ns = uv_hrtime();
    run_until(all_answered, 5000);
    assert_true(uv_hrtime() - began_ns >= 250 * 1000000u);
    assert_int_equal(late.status, STATUS_TIMEOUT);
    assert_string_equal(late.why, "failing 0");
    assert_int_equal(patient.place, 0);
    fail_store(false);
    wanted_answers = 2;
    run_until(all_answered, 5000); /* it was still tried */
    assert_int_equal(patient.status, STATUS_OK);
    assert_string_equal(patient.why, "");
}

static struct answer chained[3];

static void on_chained(void *owner, enum status status, const char *why)
{
    on_answer(owner, status, why);
    struct answer *next = (struct answer *)owner + 1;
    if (next < chained + 3) {
        store_queue_when(at.queue, put(7, STORE_DURABLE), 5000, on_chained, next);
    }
}

static void test_who_was_answered_may_ask_again(void **state)
{
    (void)state;
    memset(chained, 0, sizeof chained);
    answers = 0;
    wanted_answers = 3;
    store_queue_when(at.queue, put(7, STORE_DURABLE), 5000, on_chained, chained);
    run_until(all_answered, 5000);
    assert_int_equal(chained[2].status, STATUS_OK);
    assert_int_equal(memory.count, 3);
}

/* --- the store fails ----------------------------------------------------------------------------------------------*/

static void test_what_failed_is_kept_and_tried_again(void **state)
{
    (void)state;
    fail_store(true);
    for (uint32_t i = 1; i <= 3000; i++) {
        put(i, STORE_BEHIND);
    }
    run_until(is_failing, 5000);
    assert_int_equal(store_queue_view(at.queue)->backlog, 3000);
    assert_int_equal(memory.count, 0);
    assert_int_equal(at.written, 0);
    put(3001, STORE_BEHIND);
    fail_store(false);
    run_until(nothing_waits, 5000);
    assert_int_equal(memory.count, 3001);
    for (uint32_t i = 0; i < 3001; i++) {
        assert_int_equal(memory.kept[i], i + 1);
    }
    assert_true(store_queue_view(at.queue)->failures >= 1);
}

static bool failed_again(void)
{
    return atomic_load(&memory.attempts) >= 3;
}

static bool tells_the_new_reason(void)
{
    return strcmp(at.why, "failing 5") == 0;
}

static bool is_good(void)
{
    return at.health == STORE_GOOD && nothing_waits();
}

/* An operator is told when it breaks, when it breaks otherwise, and when it is whole: not at each attempt. */
static void test_health_is_told_once_a_change(void **state)
{
    (void)state;
    fail_store(true);
    put(1, STORE_DURABLE);
    run_until(failed_again, 10000);
    assert_int_equal(at.health_told, 1);
    assert_int_equal(at.health, STORE_FAILING);
    assert_string_equal(at.why, "failing 0");
    assert_string_equal(store_queue_view(at.queue)->why, "failing 0");
    atomic_store(&memory.why, 5);
    run_until(tells_the_new_reason, 10000);
    assert_int_equal(at.health_told, 2);
    fail_store(false);
    run_until(is_good, 10000);
    assert_int_equal(at.health_told, 3);
    assert_string_equal(store_queue_view(at.queue)->why, "");
    put(2, STORE_DURABLE);
    run_until(nothing_waits, 5000);
    assert_int_equal(at.health_told, 3);
}

/* What is written is written, and who waits is answered so; but the operator is told what must be mended, once, and
 * when it is. */
static void test_ailing_is_told(void **state)
{
    (void)state;
    atomic_store(&memory.ails, true);
    for (unsigned i = 1; i <= 3; i++) {
        put(i, STORE_DURABLE);
        run_until(nothing_waits, 5000);
        assert_int_equal(at.health, STORE_AILING);
        assert_string_equal(at.why, "ailing");
        assert_int_equal(at.written, i);
    }
    assert_int_equal(at.health_told, 1);
    assert_int_equal(store_queue_view(at.queue)->failures, 0);
    atomic_store(&memory.ails, false);
    put(4, STORE_DURABLE);
    run_until(is_good, 5000);
    assert_int_equal(at.health_told, 2);
    assert_string_equal(store_queue_view(at.queue)->why, "");
}

/* Not after the eight seconds of its pause, for an operator waits. */
static void test_an_operators_word_ends_the_pause(void **state)
{
    (void)state;
    fail_store(true);
    put(1, STORE_BEHIND);
    run_until(failed_again, 15000); /* the next pause is 4 s */
    fail_store(false);
    uint64_t began_ns = uv_hrtime();
    put(2, STORE_DURABLE);
    run_until(nothing_waits, 3000);
    assert_true(uv_hrtime() - began_ns < UINT64_C(2000) * 1000000);
}

static void test_the_backlog_is_bounded(void **state)
{
    (void)state;
    fail_store(true);
    assert_int_equal(store_queue_room(at.queue), STORE_BACKLOG_MAX);
    for (uint32_t i = 1; i <= STORE_BACKLOG_MAX; i++) {
        assert_int_equal(put(i, STORE_BEHIND), i);
    }
    assert_int_equal(store_queue_room(at.queue), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(put(99, STORE_DURABLE), 0); /* whoever asks; and freed: the sanitizer tells */
    }
    run_until(is_failing, 5000);
    assert_int_equal(put(99, STORE_DURABLE), 0); /* what the writer holds counts too */
    assert_int_equal(store_queue_view(at.queue)->backlog, STORE_BACKLOG_MAX);
    fail_store(false);
    run_until(nothing_waits, 10000);
    assert_int_equal(store_queue_room(at.queue), STORE_BACKLOG_MAX);
    assert_int_equal(memory.count, STORE_BACKLOG_MAX);
    assert_int_equal(put(1, STORE_DURABLE), STORE_BACKLOG_MAX + 1); /* refused ones used no ticket */
    run_until(nothing_waits, 5000);
}

/* --- readings -----------------------------------------------------------------------------------------------------*/

struct reading {
    bool answered;
    enum status status;
    uint32_t kept; /* changes that were written before it */
    size_t count;
    struct mac mac;
};

static unsigned readings;

static void on_events(void *owner, enum status status, const struct store_event *found, size_t count, const char *why)
{
    struct reading *reading = owner;
    (void)why;
    assert_false(reading->answered);
    reading->answered = true;
    reading->status = status;
    reading->count = count;
    if (count > 0) {
        reading->kept = found[0].unix_s;
        reading->mac = found[0].mac;
    }
    readings++;
}

static bool one_read(void)
{
    return readings >= 1;
}

static bool three_read(void)
{
    return readings >= 3;
}

/* An operator who pins a device and looks at it sees the pin. */
static void test_reads_behind_what_was_given(void **state)
{
    (void)state;
    struct reading reading[3] = { 0 };
    struct mac mac = mac_of(42);
    readings = 0;
    put(1, STORE_BEHIND);
    put(2, STORE_BEHIND);
    store_queue_events_of(at.queue, &mac, 10, on_events, &reading[0]);
    put(3, STORE_BEHIND);
    store_queue_events_of(at.queue, &mac, 10, on_events, &reading[1]);
    store_queue_events_of(at.queue, &mac, 0, on_events, &reading[2]);
    assert_int_equal(readings, 0);
    run_until(three_read, 5000);
    assert_int_equal(reading[0].kept, 2);
    assert_int_equal(reading[1].kept, 3);
    assert_int_equal(reading[2].count, 0);
    assert_memory_equal(&reading[0].mac, &mac, sizeof mac);
}

static void test_reads_past_a_store_that_cannot_be_written(void **state)
{
    (void)state;
    struct reading reading[3] = { 0 };
    struct mac mac = mac_of(42);
    readings = 0;
    fail_store(true);
    put(1, STORE_DURABLE);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[0]); /* behind the one that fails */
    run_until(one_read, 5000);
    assert_int_equal(reading[0].status, STATUS_OK);
    assert_int_equal(reading[0].kept, 0);
    run_until(is_failing, 5000);
    put(2, STORE_BEHIND);
    uint64_t began_ns = uv_hrtime();
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[1]); /* in the pause */
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[2]);
    run_until(three_read, 5000);
    assert_true(uv_hrtime() - began_ns < 900 * 1000000u); /* the pause is a second at least */
    put(3, STORE_BEHIND);
    fail_store(false);
    run_until(nothing_waits, 5000);
    assert_int_equal(memory.kept[0], 1); /* the order of the others is as it was */
    assert_int_equal(memory.kept[1], 2);
    assert_int_equal(memory.kept[2], 3);
}

/* --- the store hangs ----------------------------------------------------------------------------------------------*/

#define HANG_MS 200 /* in these tests */

static bool is_inside(void)
{
    return atomic_load(&memory.inside);
}

/* Else rollouts wait for a ticket that never comes, and nobody says why. */
static void test_a_store_that_hangs_is_failing(void **state)
{
    (void)state;
    store_queue_hangs_after(at.queue, HANG_MS);
    atomic_store(&memory.hangs, true);
    put(1, STORE_DURABLE);
    run_until(is_inside, 5000);
    uint64_t began_ns = uv_hrtime();
    run_until(is_failing, 5000);
    assert_true(uv_hrtime() - began_ns >= HANG_MS / 2 * 1000000u);
    assert_non_null(strstr(at.why, "hangs"));
    assert_int_equal(at.health_told, 1);
    put(2, STORE_DURABLE); /* it goes on taking changes */
    atomic_store(&memory.hangs, false);
    run_until(is_good, 5000);
    run_until(nothing_waits, 5000);
    assert_int_equal(memory.count, 2);
    assert_string_equal(store_queue_view(at.queue)->why, "");
}

/* Else who looks at a device waits for ever; or is answered twice. */
static void test_who_reads_from_a_store_that_hangs_is_answered(void **state)
{
    (void)state;
    struct reading reading[3] = { 0 };
    struct mac mac = mac_of(42);
    readings = 0;
    store_queue_hangs_after(at.queue, HANG_MS);
    atomic_store(&memory.hangs, true);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[0]); /* the one that hangs */
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[1]);
    run_until(is_failing, 5000);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading[2]);
    run_until(three_read, 5000);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(reading[i].status, STATUS_TIMEOUT);
    }
    atomic_store(&memory.hangs, false);
    run_until(is_good, 5000); /* a reading says nothing of health: what was heard last goes */
    put(1, STORE_DURABLE);
    run_until(nothing_waits, 5000);
    assert_int_equal(readings, 3);
}

/* Else a store that failed and then hung is called good before it is. */
static void test_what_failed_before_it_hung_is_failing_after_it(void **state)
{
    (void)state;
    struct reading reading = { 0 };
    struct mac mac = mac_of(42);
    readings = 0;
    store_queue_hangs_after(at.queue, HANG_MS);
    fail_store(true);
    put(1, STORE_DURABLE);
    run_until(is_failing, 5000);
    atomic_store(&memory.hangs, true);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading);
    run_until(one_read, 5000);
    assert_int_equal(reading.status, STATUS_TIMEOUT);
    assert_non_null(strstr(at.why, "hangs"));
    atomic_store(&memory.hangs, false);
    while (strstr(at.why, "hangs") != NULL) {
        (void)uv_run(&at.loop, UV_RUN_ONCE);
        assert_int_equal(at.health, STORE_FAILING);
    }
    fail_store(false);
    run_until(is_good, 10000);
}

/* --- the end ------------------------------------------------------------------------------------------------------*/

static void test_close_writes_what_is_left(void **state)
{
    (void)state;
    struct answer answer = { 0 };
    struct reading reading = { 0 };
    struct mac mac = mac_of(1);
    answers = readings = 0;
    for (uint32_t i = 1; i <= 10000; i++) {
        put(i, STORE_BEHIND);
    }
    store_queue_when(at.queue, 10000, 60000, on_answer, &answer);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading);
    close_queue(10000);
    assert_int_equal(memory.count, 10000);
    assert_int_equal(answer.status, STATUS_OK);
    assert_int_equal(reading.kept, 10000);
}

static void test_close_does_not_wait_for_company(void **state)
{
    (void)state;
    char message[MESSAGE_SIZE];
    bool quick = false;
    for (int i = 0; i < QUICK_ATTEMPTS && !quick; i++) {
        if (i > 0) {
            at.closed = false;
            at.written = 0;
            atomic_store(&memory.closed, false);
            at.queue = store_queue_open(&at.loop, &in_memory, "", &events, NULL, NULL, message, sizeof message);
        }
        put(1, STORE_BEHIND);
        uint64_t began_ns = uv_hrtime();
        close_queue(10000);
        quick = was_quick(began_ns);
        assert_int_equal(memory.count, i + 1);
    }
    assert_true(quick);
}

static void close_failing(uint64_t timeout_ms, uint64_t least_ms, uint64_t most_ms)
{
    struct answer answer = { 0 };
    struct reading reading = { 0 };
    struct mac mac = mac_of(1);
    answers = readings = 0;
    fail_store(true);
    put(1, STORE_DURABLE);
    store_queue_when(at.queue, 1, 60000, on_answer, &answer);
    run_until(is_failing, 5000);
    put(2, STORE_BEHIND);
    store_queue_events_of(at.queue, &mac, 1, on_events, &reading);
    uint64_t began_ns = uv_hrtime();
    close_queue(timeout_ms);
    uint64_t took_ms = (uv_hrtime() - began_ns) / 1000000;
    assert_true(took_ms >= least_ms && took_ms < most_ms);
    assert_int_equal(answer.status, STATUS_TIMEOUT);
    assert_string_equal(answer.why, "failing 0");
    assert_true(reading.answered);
    assert_int_equal(memory.count, 0);
}

static void test_close_of_a_failing_store_in_time(void **state)
{
    (void)state;
    close_failing(700, 600, 2500);
}

static void test_close_of_a_failing_store_at_once(void **state)
{
    (void)state;
    close_failing(0, 0, 900);
}

static void on_failing_end(uv_timer_t *timer)
{
    fail_store(false);
    uv_close((uv_handle_t *)timer, NULL);
}

/* The disk comes back in the last seconds. */
static void test_close_still_tries(void **state)
{
    (void)state;
    uv_timer_t timer;
    fail_store(true);
    put(1, STORE_DURABLE);
    run_until(is_failing, 5000);
    assert_int_equal(uv_timer_init(&at.loop, &timer), 0);
    assert_int_equal(uv_timer_start(&timer, on_failing_end, 200, 0), 0);
    close_queue(10000);
    assert_int_equal(memory.count, 1);
}

static void test_nothing_is_taken_after_the_close(void **state)
{
    (void)state;
    store_queue_close(at.queue, 1000, on_closed, &at);
    assert_int_equal(put(1, STORE_DURABLE), 0);
    assert_int_equal(store_queue_room(at.queue), 0);
    while (!at.closed) {
        (void)uv_run(&at.loop, UV_RUN_ONCE);
    }
    at.queue = NULL;
    assert_int_equal(memory.count, 0);
}

/* --- anything -----------------------------------------------------------------------------------------------------*/

static uint64_t random_state;

static uint32_t below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % n;
}

#define ASKED 4096
static struct answer random_answers[ASKED];
static uint64_t random_tickets[ASKED];
static struct reading random_readings[ASKED];

/* One of a thousand steps. Returns what it accepted. */
static uint32_t random_step(uint32_t next, size_t *asked, size_t *read)
{
    struct mac mac = mac_of(next);
    uint32_t dice = below(100);
    if (dice < 60) {
        uint32_t n = below(50) == 0 ? below(6000) : below(8);
        uint32_t taken = 0;
        for (uint32_t i = 0; i < n; i++) {
            taken += put(next + taken, (enum store_hurry)below(3)) > 0;
        }
        return taken;
    }
    if (dice < 70 && *asked < ASKED) {
        random_tickets[*asked] = next > 1 ? 1 + below(next - 1) : 0;
        store_queue_when(at.queue, random_tickets[*asked], below(400), on_answer, &random_answers[*asked]);
        ++*asked;
    } else if (dice < 75 && *read < ASKED) {
        store_queue_events_of(at.queue, &mac, below(3), on_events, &random_readings[(*read)++]);
    } else if (dice < 77) {
        fail_store(below(3) == 0);
        atomic_store(&memory.why, below(3));
    } else if (dice < 79) {
        atomic_store(&memory.slow_ms, below(4));
    } else {
        (void)uv_run(&at.loop, UV_RUN_NOWAIT);
    }
    return 0;
}

static void test_thousands_of_random_steps(void **state)
{
    (void)state;
    const char *seed = getenv("UPDRAFT_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : uv_hrtime();
    printf("UPDRAFT_SEED=%llu\n", (unsigned long long)random_state);
    memset(random_answers, 0, sizeof random_answers);
    memset(random_readings, 0, sizeof random_readings);
    answers = readings = 0;
    uint32_t next = 1;
    size_t asked = 0, read = 0;
    for (int step = 0; step < 20000 && next < KEPT_MAX - 10000; step++) {
        next += random_step(next, &asked, &read);
        const struct store_view *view = store_queue_view(at.queue);
        assert_true(view->backlog <= STORE_BACKLOG_MAX);
        assert_int_equal(view->backlog + view->written, next - 1); /* nothing is lost between */
        assert_int_equal(at.written, view->written);
        assert_int_equal(at.health, view->health);
    }
    fail_store(false);
    close_queue(20000);
    assert_int_equal(memory.count, next - 1);
    for (uint32_t i = 0; i < memory.count; i++) {
        assert_int_equal(memory.kept[i], i + 1);
    }
    assert_int_equal(answers, asked); /* each once */
    assert_int_equal(readings, read);
    for (size_t i = 0; i < asked; i++) {
        assert_true(random_answers[i].status != STATUS_OK || random_answers[i].kept >= random_tickets[i]);
    }
}

/* --- kill -9 ------------------------------------------------------------------------------------------------------*/

static int to_parent;
static uint64_t first_number;

static void tell_parent(void *owner, uint64_t ticket)
{
    (void)owner;
    uint64_t last = first_number + ticket - 1;
    if (write(to_parent, &last, sizeof last) != (ssize_t)sizeof last) {
        _exit(3);
    }
}

/* Device n has seen_s = n, n from first_number on; each number is a device of its own among a hundred. */
static void write_until_killed(void)
{
    char message[MESSAGE_SIZE];
    struct store_queue_events to_tell = { NULL, tell_parent, NULL };
    uv_loop_t loop;
    if (uv_loop_init(&loop) != 0) {
        _exit(4);
    }
    struct store_queue *queue =
        store_queue_open(&loop, &store_sqlite, state_dir, &to_tell, ignore_row, NULL, message, sizeof message);
    if (queue == NULL) {
        (void)fprintf(stderr, "%s\n", message);
        _exit(5);
    }
    for (uint64_t number = first_number;; number++) {
        struct store_change *change = store_change_new(STORE_DEVICE);
        change->row.device.mac = mac_of(number % 100);
        change->row.device.seen_s = (uint32_t)number;
        (void)store_queue_put(queue, change, (enum store_hurry)(number % 3));
        while (store_queue_room(queue) < STORE_BACKLOG_MAX - 300) {
            (void)uv_run(&loop, UV_RUN_ONCE);
        }
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
}

static uint64_t kill_one(uint32_t after_us)
{
    int pipes[2], status;
    uint64_t acknowledged = 0, heard;
    assert_int_equal(pipe(pipes), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(pipes[0]);
        to_parent = pipes[1];
        write_until_killed();
    }
    (void)close(pipes[1]);
    if (below(4) > 0) { /* else it may be killed while it opens */
        assert_int_equal(read(pipes[0], &acknowledged, sizeof acknowledged), sizeof acknowledged);
    }
    (void)usleep(after_us);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    while (read(pipes[0], &heard, sizeof heard) == (ssize_t)sizeof heard) {
        acknowledged = heard;
    }
    (void)close(pipes[0]);
    return acknowledged;
}

static void test_killed_at_any_moment(void **state)
{
    (void)state;
    const char *seed = getenv("UPDRAFT_SEED");
    random_state = seed != NULL ? strtoull(seed, NULL, 10) : uv_hrtime();
    printf("UPDRAFT_SEED=%llu\n", (unsigned long long)random_state);
    uint64_t next = 100, total = 0; /* from 100 on: 0 is nobody */
    for (int round = 0; round < KILLS; round++) {
        if (round % 20 == 0) {
            empty_folder(state_dir);
            next = 100;
        }
        first_number = next;
        uint64_t acknowledged = kill_one(below(12000));
        void *store = open_store(state_dir);
        struct loaded *loaded = load_all(store);
        uint64_t seen[100] = { 0 }, most = 0;
        for (size_t i = 0; i < loaded->count; i++) {
            const struct store_device *row = &loaded->rows[i]->row.device;
            assert_int_equal(row->seen_s % 100, mac_number(&row->mac));
            seen[row->seen_s % 100] = row->seen_s;
            most = row->seen_s > most ? row->seen_s : most;
        }
        assert_true(most >= acknowledged);
        for (uint64_t number = most; number > 99 && number + 100 > most; number--) {
            assert_true(number < 100 || seen[number % 100] == number); /* and nothing before it is missing */
        }
        total += acknowledged >= next ? acknowledged - next + 1 : 0;
        next = most >= next ? most + 1 : next;
        free_loaded(loaded);
        store_sqlite.close(store);
    }
    printf("%d kills, %llu changes acknowledged\n", KILLS, (unsigned long long)total);
    assert_true(total > KILLS);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_at_any_moment, make_state, remove_state), /* no thread yet */
        TEST(test_written_in_order),
        TEST(test_the_unhurried_wait_for_company),
        TEST(test_what_is_left_to_do_is_done_in_between),
        TEST(test_an_urgent_one_takes_the_rest_along),
        TEST(test_a_store_that_is_refused),
        TEST(test_a_store_that_cannot_be_read),
        TEST(test_answered_when_written),
        TEST(test_who_waits_in_vain_is_told_why),
        TEST(test_who_was_answered_may_ask_again),
        TEST(test_what_failed_is_kept_and_tried_again),
        TEST(test_health_is_told_once_a_change),
        TEST(test_ailing_is_told),
        TEST(test_an_operators_word_ends_the_pause),
        TEST(test_the_backlog_is_bounded),
        TEST(test_reads_behind_what_was_given),
        TEST(test_reads_past_a_store_that_cannot_be_written),
        TEST(test_a_store_that_hangs_is_failing),
        TEST(test_who_reads_from_a_store_that_hangs_is_answered),
        TEST(test_what_failed_before_it_hung_is_failing_after_it),
        TEST(test_close_writes_what_is_left),
        TEST(test_close_does_not_wait_for_company),
        TEST(test_close_of_a_failing_store_in_time),
        TEST(test_close_of_a_failing_store_at_once),
        TEST(test_close_still_tries),
        TEST(test_nothing_is_taken_after_the_close),
        TEST(test_thousands_of_random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
