/* Between the loop and the store: order, tickets, the bound, who waits, and the end. A mistake here is an operator who
 * was told "done" for what is lost, or a server whose memory a full disk fills. (test_store_writer.c: the store fails;
 * test_store_killed.c: the process is.)
 */
#include "tests/unit/fleet/queue_fixture.h"

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

/* --- readings -----------------------------------------------------------------------------------------------------*/

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
    seed_random();
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_written_in_order),
        TEST(test_the_unhurried_wait_for_company),
        TEST(test_what_is_left_to_do_is_done_in_between),
        TEST(test_an_urgent_one_takes_the_rest_along),
        TEST(test_a_store_that_is_refused),
        TEST(test_a_store_that_cannot_be_read),
        TEST(test_answered_when_written),
        TEST(test_who_waits_in_vain_is_told_why),
        TEST(test_who_was_answered_may_ask_again),
        TEST(test_reads_behind_what_was_given),
        TEST(test_reads_past_a_store_that_cannot_be_written),
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
