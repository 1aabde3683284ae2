/* The mailbox: what is posted is taken, once and in order, whoever posts; what is refused stays with its poster. A lost
 * message here is a command that nobody answers for, or a loop that sleeps on full boxes. */
#include "base/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS_NS 1000000u

struct letter {
    struct mail mail; /* first */
    unsigned poster, number;
};

static size_t length(const struct mail *mail)
{
    size_t n = 0;
    for (; mail != NULL; mail = mail->next) {
        n++;
    }
    return n;
}

static void assert_numbers(const struct mail *mail, unsigned first, size_t n)
{
    assert_int_equal(length(mail), n);
    for (; mail != NULL; mail = mail->next) {
        assert_int_equal(((const struct letter *)mail)->number, first++);
    }
}

/* --- a thread's box ---------------------------------------------------------------------------------------------- */

static void close_empty(struct mailbox *box)
{
    mailbox_shut(box);
    assert_null(mailbox_take(box));
    mailbox_close(box, NULL);
}

static void test_takes_all_in_order(void **state)
{
    (void)state;
    struct mailbox box;
    struct letter letters[5];
    mailbox_open_thread(&box, 10);
    assert_null(mailbox_take(&box));
    for (unsigned round = 0; round < 2; round++) { /* an emptied box begins anew */
        for (unsigned i = 0; i < 5; i++) {
            letters[i].number = i;
            assert_true(mailbox_post(&box, &letters[i].mail));
        }
        assert_numbers(mailbox_wait(&box, 1000), 0, 5);
    }
    close_empty(&box);
}

static void test_refuses_when_full(void **state)
{
    (void)state;
    struct mailbox box;
    struct letter letters[4] = { { .number = 0 }, { .number = 1 }, { .number = 2 }, { .number = 3 } };
    mailbox_open_thread(&box, 2);
    assert_true(mailbox_post(&box, &letters[0].mail));
    assert_true(mailbox_post(&box, &letters[1].mail));
    assert_false(mailbox_post(&box, &letters[2].mail));
    assert_numbers(mailbox_take(&box), 0, 2);
    assert_true(mailbox_post(&box, &letters[3].mail));
    assert_numbers(mailbox_take(&box), 3, 1);
    close_empty(&box);
}

static void fill_list(struct mail_list *list, struct letter *letters, unsigned first, unsigned n)
{
    mail_list_clear(list);
    for (unsigned i = 0; i < n; i++) {
        letters[i].number = first + i;
        mail_list_append(list, &letters[i].mail);
    }
}

static void test_takes_a_list_or_none_of_it(void **state)
{
    (void)state;
    struct mailbox box;
    struct letter letters[5], alone = { .number = 2 };
    struct mail_list list;
    mailbox_open_thread(&box, 5);
    mail_list_clear(&list);
    assert_true(mailbox_post_list(&box, &list));
    assert_null(mailbox_take(&box));
    fill_list(&list, letters, 0, 2);
    assert_true(mailbox_post_list(&box, &list));
    assert_int_equal(list.count, 0);
    assert_null(list.first);
    assert_true(mailbox_post(&box, &alone.mail));
    fill_list(&list, letters + 2, 3, 3);
    assert_false(mailbox_post_list(&box, &list));
    assert_numbers(list.first, 3, 3);
    assert_numbers(mailbox_take(&box), 0, 3);
    assert_true(mailbox_post_list(&box, &list));
    assert_numbers(mailbox_take(&box), 3, 3);
    close_empty(&box);
}

static void test_shut_box_refuses_and_keeps(void **state)
{
    (void)state;
    struct mailbox box;
    struct letter before = { .number = 7 }, after;
    mailbox_open_thread(&box, 10);
    assert_true(mailbox_post(&box, &before.mail));
    mailbox_shut(&box);
    assert_false(mailbox_post(&box, &after.mail));
    assert_numbers(mailbox_wait(&box, 60000), 7, 1);
    assert_null(mailbox_wait(&box, 60000)); /* at once: nothing can come any more */
    mailbox_close(&box, NULL);
}

static void test_wait_ends_in_time(void **state)
{
    (void)state;
    struct mailbox box;
    mailbox_open_thread(&box, 10);
    uint64_t start_ns = uv_hrtime();
    assert_null(mailbox_wait(&box, 0));
    assert_true(uv_hrtime() - start_ns < 1000 * (uint64_t)MS_NS);
    start_ns = uv_hrtime();
    assert_null(mailbox_wait(&box, 50));
    uint64_t waited_ns = uv_hrtime() - start_ns;
    assert_true(waited_ns >= 50 * MS_NS && waited_ns < 5000 * (uint64_t)MS_NS);
    close_empty(&box);
}

struct later {
    struct mailbox *box;
    struct mail *mail; /* NULL: shut the box */
    bool hurried;
};

static void act_later(void *arg)
{
    const struct later *later = arg;
    uv_sleep(50);
    if (later->mail == NULL) {
        mailbox_shut(later->box);
    } else if (later->hurried) {
        mailbox_post_hurried(later->box, later->mail);
    } else {
        mailbox_post(later->box, later->mail);
    }
}

static void test_wait_is_woken(void **state)
{
    (void)state;
    struct mailbox box;
    struct letter letter = { .number = 3 };
    uv_thread_t thread;
    mailbox_open_thread(&box, 10);
    struct mail *const mails[] = { &letter.mail, NULL };
    for (size_t i = 0; i < 2; i++) {
        struct later later = { &box, mails[i], false };
        uint64_t start_ns = uv_hrtime();
        assert_int_equal(uv_thread_create(&thread, act_later, &later), 0);
        assert_ptr_equal(mailbox_wait(&box, UINT64_MAX), mails[i]);
        assert_true(uv_hrtime() - start_ns < 5000 * (uint64_t)MS_NS);
        uv_thread_join(&thread);
    }
    mailbox_close(&box, NULL);
}

/* --- many posters ------------------------------------------------------------------------------------------------ */

#define POSTERS 4
#define EACH    5000

struct poster {
    struct mailbox *box;
    unsigned index;
    uv_thread_t thread;
    unsigned refused;
    struct letter letters[EACH];
};

static void post_all(void *arg)
{
    struct poster *poster = arg;
    for (unsigned i = 0; i < EACH; i++) {
        poster->letters[i].poster = poster->index;
        poster->letters[i].number = i;
        while (!mailbox_post(poster->box, &poster->letters[i].mail)) { /* full: it is still ours */
            poster->refused++;
            uv_sleep(1);
        }
    }
}

static struct poster *start_posters(struct mailbox *box)
{
    struct poster *posters = calloc(POSTERS, sizeof *posters);
    assert_non_null(posters);
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i].box = box;
        posters[i].index = i;
        assert_int_equal(uv_thread_create(&posters[i].thread, post_all, &posters[i]), 0);
    }
    return posters;
}

static void join_posters(struct poster *posters)
{
    for (unsigned i = 0; i < POSTERS; i++) {
        uv_thread_join(&posters[i].thread);
    }
    free(posters);
}

/* What one poster posted comes in its order, none missing, none twice. */
static size_t check_order(const struct mail *mail, unsigned next[POSTERS])
{
    size_t n = 0;
    for (; mail != NULL; mail = mail->next, n++) {
        const struct letter *letter = (const struct letter *)mail;
        assert_int_equal(letter->number, next[letter->poster]);
        next[letter->poster]++;
    }
    return n;
}

/* Who rests is not woken for each; only for enough, for one that hurries, and for the end. */
static void test_rest(void **state)
{
    (void)state;
    struct mailbox box;
    struct letter letters[3] = { { .number = 0 }, { .number = 1 }, { .number = 2 } };
    mailbox_open_thread(&box, 10);
    assert_true(mailbox_post(&box, &letters[0].mail));
    uint64_t start_ns = uv_hrtime();
    mailbox_rest(&box, 2, 50);
    assert_true(uv_hrtime() - start_ns >= 50 * MS_NS);
    assert_true(mailbox_post(&box, &letters[1].mail));
    mailbox_rest(&box, 2, UINT64_MAX); /* at once: they are enough */
    assert_numbers(mailbox_take(&box), 0, 2);
    assert_true(mailbox_post_hurried(&box, &letters[2].mail));
    mailbox_rest(&box, 2, UINT64_MAX);
    assert_numbers(mailbox_take(&box), 2, 1);
    start_ns = uv_hrtime();
    mailbox_rest(&box, 2, 50); /* the hurry went with its message */
    assert_true(uv_hrtime() - start_ns >= 50 * MS_NS);
    close_empty(&box);
}

static void test_rest_is_ended(void **state)
{
    (void)state;
    struct letter letter = { .number = 4 };
    const struct {
        struct mail *mail;
        bool hurried;
        size_t enough;
    } ends[] = { { &letter.mail, true, 5 }, { &letter.mail, false, 1 }, { NULL, false, 5 } };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        struct mailbox box;
        uv_thread_t thread;
        mailbox_open_thread(&box, 10);
        struct later later = { &box, ends[i].mail, ends[i].hurried };
        assert_int_equal(uv_thread_create(&thread, act_later, &later), 0);
        mailbox_rest(&box, ends[i].enough, UINT64_MAX);
        assert_ptr_equal(mailbox_take(&box), ends[i].mail);
        uv_thread_join(&thread);
        if (ends[i].mail != NULL) {
            mailbox_shut(&box);
        }
        mailbox_close(&box, NULL);
    }
}

static void test_many_posters_to_a_thread(void **state)
{
    (void)state;
    struct mailbox box;
    mailbox_open_thread(&box, 100);
    struct poster *posters = start_posters(&box);
    unsigned next[POSTERS] = { 0 };
    for (size_t taken = 0; taken < POSTERS * EACH;) {
        struct mail *mail = mailbox_wait(&box, 10000);
        assert_non_null(mail);
        assert_true(length(mail) <= 100);
        taken += check_order(mail, next);
    }
    join_posters(posters);
    close_empty(&box);
}

/* --- a loop's box ------------------------------------------------------------------------------------------------ */

static struct {
    uv_loop_t loop;
    struct mailbox box;
    unsigned calls, closed;
    size_t taken;
    unsigned next[POSTERS];
    struct letter *again; /* to be posted from within */
} home;

static void on_mail(struct mailbox *box, void *owner)
{
    assert_ptr_equal(box, &home.box);
    assert_ptr_equal(owner, &home);
    home.calls++;
    home.taken += check_order(mailbox_take(box), home.next);
    struct letter *again = home.again;
    home.again = NULL;
    if (again != NULL) {
        assert_true(mailbox_post(box, &again->mail));
    }
}

static void on_closed(void *owner)
{
    assert_ptr_equal(owner, &home);
    home.closed++;
}

static int open_home(void **state)
{
    (void)state;
    memset(&home, 0, sizeof home);
    uv_loop_init(&home.loop);
    mailbox_open_loop(&home.box, 1000, &home.loop, on_mail, &home);
    return 0;
}

static int close_home(void **state)
{
    (void)state;
    mailbox_shut(&home.box);
    mailbox_take(&home.box);
    mailbox_close(&home.box, on_closed);
    assert_int_equal(home.closed, 0); /* later, not within */
    uv_run(&home.loop, UV_RUN_DEFAULT);
    assert_int_equal(home.closed, 1);
    assert_int_equal(uv_loop_close(&home.loop), 0);
    return 0;
}

static void test_wake_ups_merge(void **state)
{
    (void)state;
    struct letter letters[500];
    for (unsigned i = 0; i < 500; i++) {
        letters[i] = (struct letter){ .number = i };
        assert_true(mailbox_post(&home.box, &letters[i].mail));
    }
    uv_run(&home.loop, UV_RUN_NOWAIT);
    assert_int_equal(home.taken, 500);
    assert_int_equal(home.calls, 1);
}

static void test_posting_from_within(void **state)
{
    (void)state;
    struct letter first = { .number = 0 }, second = { .number = 1 };
    home.again = &second;
    assert_true(mailbox_post(&home.box, &first.mail));
    while (home.taken < 2) {
        uv_run(&home.loop, UV_RUN_ONCE);
    }
    assert_int_equal(home.calls, 2);
}

static void test_many_posters_to_a_loop(void **state)
{
    (void)state;
    struct poster *posters = start_posters(&home.box);
    while (home.taken < POSTERS * EACH) {
        uv_run(&home.loop, UV_RUN_ONCE);
    }
    join_posters(posters);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_all_in_order),
        cmocka_unit_test(test_refuses_when_full),
        cmocka_unit_test(test_takes_a_list_or_none_of_it),
        cmocka_unit_test(test_shut_box_refuses_and_keeps),
        cmocka_unit_test(test_wait_ends_in_time),
        cmocka_unit_test(test_wait_is_woken),
        cmocka_unit_test(test_rest),
        cmocka_unit_test(test_rest_is_ended),
        cmocka_unit_test(test_many_posters_to_a_thread),
        cmocka_unit_test_setup_teardown(test_wake_ups_merge, open_home, close_home),
        cmocka_unit_test_setup_teardown(test_posting_from_within, open_home, close_home),
        cmocka_unit_test_setup_teardown(test_many_posters_to_a_loop, open_home, close_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
