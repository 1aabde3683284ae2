/* What was acknowledged is on the disk, and all before it: SQLite behind the queue, in a process that is killed. */
#include "fleet/store_queue.h"
#include "tests/unit/fleet/store_fixture.h"

#include <signal.h>
#include <sys/wait.h>

#if defined(__SANITIZE_THREAD__)
#define KILLS 60 /* a process under it starts slowly */
#else
#define KILLS 300
#endif

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
    seed_random();
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
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_at_any_moment, make_state, remove_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
