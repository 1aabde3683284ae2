/* The tokens: who is let in, what lies on the disk, and that a failure changes neither.
 *
 * Each test runs in an empty folder of its own. fsync is the test's: it counts, and fails when told to.
 */
#include "server/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <errno.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define NOW_S           1795244400
/* echo -n updraft_AAAA | sha256sum */
#define HASH_A "72d38114de55394bcc05fea0ef838cd9bf9f2feb3503ac37e527b6b4c7b577f8"

static char folder[] = "/tmp/test_tokens.XXXXXX";
static uv_loop_t loop;
static unsigned syncs, sync_that_fails; /* the how-manieth; 0 = none */

int fsync(int descriptor)
{
    if (++syncs == sync_that_fails) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, descriptor);
}

static int set_up(void **state)
{
    (void)state;
    syncs = sync_that_fails = 0;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    return mkdtemp(folder) == NULL || chdir(folder) != 0 || uv_loop_init(&loop) != 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink("tokens");
    unlink("target");
    rmdir("tokens.tmp");
    return uv_loop_close(&loop) != 0 || chdir("/") != 0 || rmdir(folder) != 0 ? -1 : 0;
}

/* --- fixture ------------------------------------------------------------------------------------------------------ */

struct done {
    unsigned calls;
    enum status status;
    bool has_text;
    char text[TOKEN_TEXT_SIZE];
};

static void on_done(void *owner, enum status status, const char *text)
{
    struct done *done = owner;
    done->calls++;
    done->status = status;
    done->has_text = text != NULL;
    snprintf(done->text, sizeof done->text, "%s", text != NULL ? text : "");
}

static struct tokens *load(void)
{
    struct tokens *tokens = NULL;
    char message[300] = "";
    enum status status = tokens_load("tokens", &tokens, message, sizeof message);
    if (status != STATUS_OK) {
        fail_msg("%s", message);
    }
    return tokens;
}

static void write_file(const char *text)
{
    FILE *file = fopen("tokens", "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char *read_file(void)
{
    static char text[65536];
    FILE *file = fopen("tokens", "r");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    text[n] = '\0';
    fclose(file);
    return text;
}

/* Makes one and waits until it is on the disk. */
static struct done make(struct tokens *tokens, const char *name)
{
    struct done done = { .calls = 0 };
    assert_int_equal(tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of(name) }, NOW_S, on_done, &done),
                     STATUS_OK);
    assert_int_equal(done.calls, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(done.calls, 1);
    return done;
}

static struct done remove_token(struct tokens *tokens, const char *name)
{
    struct done done = { .calls = 0 };
    assert_int_equal(tokens_remove(tokens, &loop, slice_of(name), on_done, &done), STATUS_OK);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(done.calls, 1);
    return done;
}

static bool admits_slice(struct tokens *tokens, struct slice token)
{
    struct token_view view;
    return tokens_admit(tokens, token, NOW_S, &view) == TOKENS_GOOD;
}

static bool admits(struct tokens *tokens, const char *token)
{
    return admits_slice(tokens, slice_of(token));
}

/* --- who is let in ------------------------------------------------------------------------------------------------ */

/* Else the admin API is open to all where no token has been made, which is how every server starts. */
static void test_nobody_without_a_token(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    assert_int_equal(tokens_count(tokens), 0);
    assert_false(admits(tokens, ""));
    assert_false(admits_slice(tokens, (struct slice){ NULL, 0 }));
    assert_false(admits(tokens, "updraft_"));
    tokens_free(tokens);
}

/* Else a token works until the restart, or the wrong ones do too. */
static void test_a_token_opens_at_once_and_after_a_restart(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done first = make(tokens, "grafana");
    struct done second = make(tokens, "ci");
    assert_int_equal(strlen(first.text), TOKEN_TEXT_SIZE - 1);
    assert_int_equal(strncmp(first.text, TOKEN_PREFIX, strlen(TOKEN_PREFIX)), 0);
    assert_string_not_equal(first.text, second.text);
    for (unsigned round = 0; round < 2; round++) {
        assert_true(admits(tokens, first.text) && admits(tokens, second.text));
        struct slice longer = { first.text, TOKEN_TEXT_SIZE };
        struct slice shorter = { first.text, TOKEN_TEXT_SIZE - 2 };
        assert_false(admits_slice(tokens, longer) || admits_slice(tokens, shorter));
        first.text[20] ^= 1;
        assert_false(admits(tokens, first.text));
        first.text[20] ^= 1;
        tokens_free(tokens);
        tokens = load();
    }
    tokens_free(tokens);
}

/* Else a token breaks where it is pasted: in a URL, a shell, a header. */
static void test_the_letters_of_a_token(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    for (unsigned i = 0; i < 12; i++) { /* 516 letters: without `-` and `_` once in ten million runs */
        char name[8];
        snprintf(name, sizeof name, "%u", i);
        struct done done = make(tokens, name);
        assert_int_equal(strspn(done.text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
                         TOKEN_TEXT_SIZE - 1);
    }
    tokens_free(tokens);
}

/* Else whoever reads the file, or a backup of it, is let in. */
static void test_the_file_has_no_token(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done done = make(tokens, "grafana");
    const char *text = read_file();
    assert_null(strstr(text, TOKEN_PREFIX));
    assert_null(strstr(text, done.text + strlen(TOKEN_PREFIX)));
    char hash[65] = "";
    assert_int_equal(sscanf(text, "%64s 1795244400 grafana read - -\n", hash), 1);
    assert_false(admits(tokens, hash));
    struct stat stat_now;
    assert_int_equal(stat("tokens", &stat_now), 0);
    assert_int_equal(stat_now.st_mode & 07777, 0600);
    tokens_free(tokens);
}

/* Else a form of the digest or the file changes, and every token given out is void after an update of the server. */
static void test_a_file_of_before_is_read(void **state)
{
    (void)state;
    write_file(HASH_A " 1795244400 grafana\n");
    struct tokens *tokens = load();
    struct token_view view;
    assert_true(tokens_at(tokens, 0, &view));
    assert_string_equal(view.name, "grafana");
    assert_int_equal(view.created_s, 1795244400);
    assert_int_equal(view.role, ROLE_ADMIN); /* as it always might */
    assert_true(view.role_unsaid);
    assert_int_equal(view.expires_s, 0);
    assert_false(tokens_at(tokens, 1, &view));
    assert_true(admits(tokens, "updraft_AAAA"));
    assert_false(admits(tokens, "updraft_AAAB"));
    tokens_free(tokens);
}

/* Else a token may more after a restart than what it was made for, or works for ever. */
static void test_roles_and_ends_are_kept(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done done = { .calls = 0 };
    struct token_order order = { .name = slice_of("ci"), .role = ROLE_OPERATE, .expires_s = NOW_S + 60 };
    assert_int_equal(tokens_make(tokens, &loop, &order, NOW_S, on_done, &done), STATUS_OK);
    uv_run(&loop, UV_RUN_DEFAULT);
    for (unsigned round = 0; round < 2; round++) {
        struct token_view view;
        struct slice token = slice_of(done.text);
        assert_int_equal(tokens_admit(tokens, token, NOW_S + 59, &view), TOKENS_GOOD);
        assert_string_equal(view.name, "ci");
        assert_int_equal(view.role, ROLE_OPERATE);
        assert_false(view.role_unsaid);
        assert_int_equal(view.used_s, NOW_S + 59);
        assert_int_equal(tokens_admit(tokens, token, NOW_S + 60, &view), TOKENS_EXPIRED);
        assert_int_equal(view.expires_s, NOW_S + 60);
        assert_int_equal(view.used_s, NOW_S + 59); /* who is refused uses nothing */
        assert_int_equal(tokens_admit(tokens, slice_of("updraft_x"), NOW_S, &view), TOKENS_UNKNOWN);
        tokens_free(tokens);
        tokens = load();
    }
    tokens_free(tokens);
}

/* Else a clock that was wrong once, as at the start of a small computer, ends all writing until it is that late. */
static void test_use_is_written_down_when_the_clock_is_set_back(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done done = make(tokens, "a");
    struct token_view view;
    for (unsigned i = 0; i < 2; i++) {
        int64_t now_s = i == 0 ? NOW_S + 365 * 86400 : NOW_S;
        tokens_admit(tokens, slice_of(done.text), now_s, &view);
        tokens_save_used(tokens, &loop, now_s);
        uv_run(&loop, UV_RUN_DEFAULT);
        struct tokens *again = load();
        assert_true(tokens_at(again, 0, &view));
        assert_int_equal(view.used_s, now_s);
        tokens_free(again);
    }
    tokens_free(tokens);
}

/* Else the file is written with every request, or nobody knows after a restart which tokens are in use. */
static void test_use_is_written_down_by_the_hour(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done done = make(tokens, "a");
    struct token_view view;
    unsigned before = syncs;
    tokens_save_used(tokens, &loop, NOW_S);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(syncs, before); /* nobody used it */
    for (unsigned i = 0; i < 3; i++) {
        tokens_admit(tokens, slice_of(done.text), NOW_S + i, &view);
        tokens_save_used(tokens, &loop, NOW_S + i);
        uv_run(&loop, UV_RUN_DEFAULT);
    }
    assert_int_equal(syncs, before + 2);
    tokens_admit(tokens, slice_of(done.text), NOW_S + 3600, &view);
    sync_that_fails = syncs + 1;
    tokens_save_used(tokens, &loop, NOW_S + 3600);
    uv_run(&loop, UV_RUN_DEFAULT);
    tokens_save_used(tokens, &loop, NOW_S + 3601); /* a disk that fails is not asked again at once */
    assert_int_equal(syncs, before + 3);
    tokens_save_used(tokens, &loop, NOW_S + 7200);
    tokens_admit(tokens, slice_of(done.text), NOW_S + 7201, &view);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(tokens_at(tokens, 0, &view));
    assert_int_equal(view.used_s, NOW_S + 7201); /* used while it was written */
    tokens_free(tokens);
    tokens = load();
    assert_true(tokens_at(tokens, 0, &view));
    assert_int_equal(view.used_s, NOW_S + 3600);
    tokens_free(tokens);
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

/* Else a token that leaked cannot be taken back, or another one goes with it. */
static void test_a_removed_token_no_longer_opens(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done done[3];
    static const char *const names[] = { "a", "b", "c" };
    for (size_t i = 0; i < 3; i++) {
        done[i] = make(tokens, names[i]);
    }
    struct done removed = remove_token(tokens, "a");
    assert_int_equal(removed.status, STATUS_OK);
    assert_false(removed.has_text);
    for (unsigned round = 0; round < 2; round++) {
        assert_false(admits(tokens, done[0].text));
        assert_true(admits(tokens, done[1].text) && admits(tokens, done[2].text));
        assert_int_equal(tokens_count(tokens), 2);
        tokens_free(tokens);
        tokens = load();
    }
    tokens_free(tokens);
}

/* Else a name breaks the file's lines, or two tokens share one and the wrong one is removed. */
static void test_names_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "a b", "a\nb", "a/b", "\xc3\xa4", "12345678901234567890123456789012345678901234567890123456789012345"
    };
    struct tokens *tokens = load();
    struct done done = { .calls = 0 };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_int_equal(
            tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of(bad[i]) }, NOW_S, on_done, &done),
            STATUS_INVALID);
    }
    assert_int_equal(
        tokens_make(tokens, &loop, &(struct token_order){ .name = (struct slice){ "a\0b", 3 } }, NOW_S, on_done, &done),
        STATUS_INVALID);
    make(tokens, "A.z_0-9");
    assert_int_equal(
        tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("A.z_0-9") }, NOW_S, on_done, &done),
        STATUS_BUSY);
    assert_int_equal(tokens_remove(tokens, &loop, slice_of("A.z_0-"), on_done, &done), STATUS_NOT_FOUND);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(done.calls, 0);
    assert_int_equal(tokens_count(tokens), 1);
    tokens_free(tokens);
}

/* Else the second of two changes is made from a list that lacks the first, which is lost. */
static void test_one_change_at_a_time(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done first = { .calls = 0 }, second = { .calls = 0 };
    assert_int_equal(tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("a") }, NOW_S, on_done, &first),
                     STATUS_OK);
    assert_int_equal(
        tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("b") }, NOW_S, on_done, &second),
        STATUS_BUSY);
    assert_int_equal(tokens_count(tokens), 0); /* not before it is on the disk */
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(first.calls, 1);
    assert_int_equal(second.calls, 0);
    assert_int_equal(make(tokens, "b").status, STATUS_OK);
    assert_int_equal(tokens_count(tokens), 2);
    tokens_free(tokens);
}

static void make_again(void *owner, enum status status, const char *text)
{
    (void)text;
    assert_int_equal(status, STATUS_OK);
    static struct done done;
    done.calls = 0;
    assert_int_equal(
        tokens_make(owner, &loop, &(struct token_order){ .name = slice_of("second") }, NOW_S, on_done, &done),
        STATUS_OK);
}

/* Else who answers one change by the next is told for ever that one is under way. */
static void test_a_change_can_begin_when_one_ends(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    assert_int_equal(
        tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("first") }, NOW_S, make_again, tokens),
        STATUS_OK);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(tokens_count(tokens), 2);
    tokens_free(tokens);
}

/* Else the file grows without end, or is written and then refused at the next start. */
static void test_as_many_as_fit_can_be_read_back(void **state)
{
    (void)state;
    static char text[TOKENS_MAX * 200];
    size_t used = 0;
    for (unsigned i = 0; i < TOKENS_MAX; i++) {
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s 253402300799 %064u operate 253402300799 253402300799\n", HASH_A, i);
    }
    write_file(text);
    struct tokens *tokens = load();
    struct done done = { .calls = 0 };
    assert_int_equal(tokens_count(tokens), TOKENS_MAX);
    assert_int_equal(
        tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("more") }, NOW_S, on_done, &done),
        STATUS_LIMIT);
    char name[TOKEN_NAME_MAX + 1];
    snprintf(name, sizeof name, "%064u", 17);
    remove_token(tokens, name);
    make(tokens, name);
    tokens_free(tokens);
    tokens = load();
    assert_int_equal(tokens_count(tokens), TOKENS_MAX);
    tokens_free(tokens);
}

/* Else the server writes into freed memory when it stops in the middle of a change. */
static void test_freed_while_a_change_is_under_way(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done done = { .calls = 0 };
    assert_int_equal(tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("a") }, NOW_S, on_done, &done),
                     STATUS_OK);
    tokens_free(tokens);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(done.calls, 0);
    tokens = load();
    assert_int_equal(tokens_count(tokens), 1);
    tokens_free(tokens);
}

/* --- what fails --------------------------------------------------------------------------------------------------- */

/* Else a token is handed out that the next start does not know: the file and its folder must have reached the disk
 * before anybody is told. */
static void test_a_disk_that_fails_makes_no_token(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    struct done kept = make(tokens, "kept");
    assert_int_equal(syncs, 2);
    char before[500];
    snprintf(before, sizeof before, "%s", read_file());
    for (unsigned i = 1; i <= 2; i++) {
        sync_that_fails = syncs + i;
        struct done done = make(tokens, "lost");
        assert_int_equal(done.status, STATUS_IO);
        assert_false(admits(tokens, done.text));
        assert_string_equal(read_file(), before);
        assert_int_equal(access("tokens.tmp", F_OK), -1);
    }
    assert_true(admits(tokens, kept.text));
    assert_int_equal(make(tokens, "lost").status, STATUS_OK);
    tokens_free(tokens);
}

/* Else what leaked opens the door for as long as the disk is full; or comes back by itself when another is made. */
static void test_a_disk_that_fails_keeps_no_revoked_token(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 2; i++) {
        write_file("");
        struct tokens *tokens = load();
        struct done kept = make(tokens, "kept"), leaked = make(tokens, "leaked");
        struct token_view view;
        sync_that_fails = syncs + i;
        assert_int_equal(remove_token(tokens, "leaked").status, STATUS_IO);
        assert_false(admits(tokens, leaked.text));
        assert_true(admits(tokens, kept.text));
        assert_true(tokens_at(tokens, 1, &view) && view.revoked); /* still listed: it is not over */
        struct done done = { .calls = 0 };
        assert_int_equal(
            tokens_make(tokens, &loop, &(struct token_order){ .name = slice_of("leaked") }, NOW_S, on_done, &done),
            STATUS_BUSY);
        if (i == 1) { /* once more, or by itself */
            assert_int_equal(remove_token(tokens, "leaked").status, STATUS_OK);
        } else {
            tokens_save_used(tokens, &loop, NOW_S);
            uv_run(&loop, UV_RUN_DEFAULT);
        }
        assert_int_equal(tokens_count(tokens), 1);
        assert_null(strstr(read_file(), "leaked"));
        tokens_free(tokens);
    }
}

/* Else a restart revives what leaked, or it comes back when the other one is there: the list that was on its way had
 * it. Where the disk fails it stays revoked, and is tried again later. */
static void test_a_token_is_revoked_while_another_is_made(void **state)
{
    (void)state;
    for (unsigned fails = 0; fails < 2; fails++) {
        write_file("");
        struct tokens *tokens = load();
        struct done leaked = make(tokens, "leaked"), other = { .calls = 0 }, done = { .calls = 0 };
        struct token_view view;
        struct token_order order = { .name = slice_of("other") };
        unsigned before = syncs;
        sync_that_fails = fails != 0 ? before + 1 : 0;
        assert_int_equal(tokens_make(tokens, &loop, &order, NOW_S, on_done, &other), STATUS_OK);
        assert_int_equal(tokens_remove(tokens, &loop, slice_of("leaked"), on_done, &done), STATUS_BUSY);
        assert_false(admits(tokens, leaked.text));
        uv_run(&loop, UV_RUN_DEFAULT);
        assert_int_equal(other.status, fails != 0 ? STATUS_IO : STATUS_OK);
        assert_int_equal(syncs, before + (fails != 0 ? 1 : 4)); /* file and folder; and again without it */
        assert_int_equal(admits(tokens, other.text), fails == 0);
        assert_false(admits(tokens, leaked.text));
        assert_int_equal(tokens_count(tokens), 1);
        assert_true(tokens_at(tokens, 0, &view) && view.revoked == (fails != 0));
        assert_int_equal(strstr(read_file(), "leaked") != NULL, fails != 0);
        assert_int_equal(done.calls, 0);
        tokens_free(tokens);
    }
}

/* Else a folder that cannot be written looks like success. */
static void test_a_file_that_cannot_be_made(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    assert_int_equal(mkdir("tokens.tmp", 0700), 0);
    assert_int_not_equal(make(tokens, "a").status, STATUS_OK);
    assert_int_equal(tokens_count(tokens), 0);
    assert_int_equal(access("tokens", F_OK), -1);
    tokens_free(tokens);
}

/* Else what was left there, or put there, is followed to a file of somebody else's. */
static void test_a_link_in_the_way_is_not_followed(void **state)
{
    (void)state;
    struct tokens *tokens = load();
    write_file("");
    assert_int_equal(rename("tokens", "target"), 0);
    assert_int_equal(symlink("target", "tokens.tmp"), 0);
    assert_int_equal(make(tokens, "a").status, STATUS_OK);
    struct stat target;
    assert_int_equal(stat("target", &target), 0);
    assert_int_equal(target.st_size, 0);
    tokens_free(tokens);
}

/* Else a damaged file is taken for "no tokens", overwritten by the next one made, and everybody is locked out. */
static void test_a_damaged_file_is_refused_by_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *why;
    } cases[] = {
        { "garbage\n", "tokens:1:", "SHA-256" },
        { "\n", "tokens:1:", "SHA-256" },
        { HASH_A " 1 a\n\n", "tokens:2:", "SHA-256" },
        { HASH_A " 1 a\n" HASH_A "0 1 b\n", "tokens:2:", "SHA-256" },
        { HASH_A " 1 a\n" HASH_A " 2 b\n" HASH_A " x c\n", "tokens:3:", "time" },
        { HASH_A " -1 a\n", "tokens:1:", "time" },
        { HASH_A " 253402300800 a\n", "tokens:1:", "time" },
        { HASH_A "  1 a\n", "tokens:1:", "time" },
        { HASH_A " 1 \n", "tokens:1:", "name" },
        { HASH_A " 1\n", "tokens:1:", "name" },
        { HASH_A " 1 a b\n", "tokens:1:", "name" },
        { HASH_A " 1 a \n", "tokens:1:", "name" },
        { HASH_A " 1 a root - -\n", "tokens:1:", "role" },
        { HASH_A " 1 a admin\n", "tokens:1:", "expires" },
        { HASH_A " 1 a admin -\n", "tokens:1:", "used" },
        { HASH_A " 1 a admin - - -\n", "tokens:1:", "used" },
        { HASH_A " 1 a admin 0 -\n", "tokens:1:", "expires" },
        { HASH_A " 1 a admin x -\n", "tokens:1:", "expires" },
        { HASH_A " 1 a admin 253402300800 -\n", "tokens:1:", "expires" },
        { HASH_A " 1 a\n" HASH_A " 2 a\n", "tokens:2:", "earlier" },
        { HASH_A " 1 a\n" HASH_A " 2 b", "tokens:2:", "cut off" },
        { HASH_A " 1 12345678901234567890123456789012345678901234567890123456789012345\n", "tokens:1:", "name" },
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct tokens *tokens = NULL;
        char message[400] = "";
        write_file(cases[i].text);
        assert_int_equal(tokens_load("tokens", &tokens, message, sizeof message), STATUS_INVALID);
        assert_null(tokens);
        if (strstr(message, cases[i].where) == NULL || strstr(message, cases[i].why) == NULL ||
            strstr(message, "restore") == NULL) {
            fail_msg("%zu: %s", i, message);
        }
        assert_string_equal(read_file(), cases[i].text);
    }
}

/* Else the server reads whatever was put there into memory, or cuts it silently. */
static void test_a_file_that_is_too_long(void **state)
{
    (void)state;
    static const unsigned lines[] = { TOKENS_MAX + 1, 100000 };
    static const enum status expected[] = { STATUS_INVALID, STATUS_TOO_LONG };
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct tokens *tokens = NULL;
        char message[300] = "";
        FILE *file = fopen("tokens", "w");
        assert_non_null(file);
        for (unsigned j = 0; j < lines[i]; j++) {
            fprintf(file, "%s 1 %u\n", HASH_A, j);
        }
        fclose(file);
        assert_int_equal(tokens_load("tokens", &tokens, message, sizeof message), expected[i]);
        assert_null(tokens);
    }
}

/* Else the start hangs, or what is no file passes for an empty list. */
static void test_what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct tokens *tokens = NULL;
    char message[300] = "";
    assert_int_equal(mkfifo("tokens", 0600), 0);
    assert_int_equal(tokens_load("tokens", &tokens, message, sizeof message), STATUS_INVALID);
    assert_non_null(strstr(message, "tokens cannot be read"));
    assert_null(tokens);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_nobody_without_a_token),
        TEST(test_a_token_opens_at_once_and_after_a_restart),
        TEST(test_the_letters_of_a_token),
        TEST(test_the_file_has_no_token),
        TEST(test_a_file_of_before_is_read),
        TEST(test_roles_and_ends_are_kept),
        TEST(test_use_is_written_down_by_the_hour),
        TEST(test_use_is_written_down_when_the_clock_is_set_back),
        TEST(test_a_removed_token_no_longer_opens),
        TEST(test_names_are_checked),
        TEST(test_one_change_at_a_time),
        TEST(test_a_change_can_begin_when_one_ends),
        TEST(test_as_many_as_fit_can_be_read_back),
        TEST(test_freed_while_a_change_is_under_way),
        TEST(test_a_disk_that_fails_makes_no_token),
        TEST(test_a_disk_that_fails_keeps_no_revoked_token),
        TEST(test_a_token_is_revoked_while_another_is_made),
        TEST(test_a_file_that_cannot_be_made),
        TEST(test_a_link_in_the_way_is_not_followed),
        TEST(test_a_damaged_file_is_refused_by_its_line),
        TEST(test_a_file_that_is_too_long),
        TEST(test_what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
