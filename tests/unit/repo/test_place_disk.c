/* Images put into a repository on disk, and taken out. What makes it hard is what can be in the way, and that whatever
 * happens, a scan finds either the file as it was before or the whole new one, and nothing outside is touched.
 */
#include "repo/place.h"

#include "tests/unit/repo/repo_fixture.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

/* --- fixture ------------------------------------------------------------------------------------------------------ */

static struct folder folder;  /* the repository */
static struct folder outside; /* what must not change */

static int set_up(void **state)
{
    (void)state;
    folder_make(&folder);
    folder_make(&outside);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    folder_remove(&folder, "");
    folder_remove(&outside, "");
    return 0;
}

/* door/1.0.bin, of these many bytes; they are the caller's to free. */
static struct place_order order_of(unsigned seed, size_t bytes, bool replace)
{
    struct image_make wish = { .seed = seed, .bytes = bytes };
    struct place_order order;
    struct place_name_fault fault;
    size_t n;
    memset(&order, 0, sizeof order);
    assert_true(place_path(slice_of("door"), slice_of("1.0"), FILENAME_SKETCH, false, &order, &fault));
    order.root = folder.path;
    order.bytes = image_make(&wish, &n);
    order.size = n;
    order.replace = replace;
    order.chip = CHIP_UNKNOWN;
    return order;
}

static void free_order(struct place_order *order)
{
    free((void *)(uintptr_t)order->bytes);
}

static struct place_outcome place(const struct place_order *order)
{
    struct place_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    place_image(order, &outcome);
    return outcome;
}

static struct place_outcome take_out(const char *path)
{
    struct place_outcome outcome;
    memset(&outcome, 0x5a, sizeof outcome);
    place_remove(folder.path, path, &outcome);
    return outcome;
}

static bool is_there(const char *path)
{
    struct stat stat;
    return lstat(in_folder(&folder, path).text, &stat) == 0;
}

/* A refusal names the file, has the reason and has the remedy. */
static void assert_says(const struct place_outcome *outcome, enum place_result result, const char *reason,
                        const char *remedy)
{
    if (outcome->result != result || strstr(outcome->message, "door/1.0.bin") == NULL ||
        strstr(outcome->message, reason) == NULL || strstr(outcome->remedy, remedy) == NULL) {
        fail_msg("%s, not \"%s\" and \"%s\": %s | %s", place_result_word(outcome->result), reason, remedy,
                 outcome->message, outcome->remedy);
    }
}

/* --- in the way of the folder ------------------------------------------------------------------------------------- */

static void test_repository_that_is_none(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, false);
    struct file_path file = in_folder(&outside, "file");
    order.root = "/nowhere/at/all";
    struct place_outcome outcome = place(&order);
    assert_says(&outcome, PLACE_FAILED, "the repository /nowhere/at/all is not there", "--repo");
    assert_int_equal(outcome.status, STATUS_NOT_FOUND);
    place_remove("/nowhere/at/all", "door/1.0.bin", &outcome);
    assert_says(&outcome, PLACE_FAILED, "removed: the repository /nowhere/at/all is not there", "--repo");

    folder_write(&outside, "file", "x", 1);
    order.root = file.text;
    outcome = place(&order);
    assert_says(&outcome, PLACE_FAILED, "is no folder", "--repo");
    free_order(&order);
}

static void test_file_where_the_folder_should_be(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, true);
    folder_write(&folder, "door", "notes", 5);
    struct place_outcome outcome = place(&order);
    assert_says(&outcome, PLACE_FAILED, "folder door is a file", "another type");
    assert_true(folder_holds(&folder, "door", "notes", 5));
    free_order(&order);
}

/* What a scan would follow is followed, as long as it stays inside; nothing is written or removed elsewhere. */
static void test_folder_that_is_a_link(void **state)
{
    (void)state;
    char absolute[300];
    snprintf(absolute, sizeof absolute, "%s/gate", folder.path);
    const struct {
        const char *to, *reason; /* NULL: followed */
    } rows[] = {
        { "gate", NULL },
        { "./gate/../gate", NULL },
        { "nowhere", "link to nowhere" },
        { "door", "in a circle" },
        { ".", "in a circle" }, /* its images would be labels */
        { "..", "out of the repository" },
        { outside.path, "out of the repository" },
        { absolute, "out of the repository" }, /* it stays inside, but nobody can tell for as long as a link stays */
    };
    struct place_order order = order_of(1, 0, true);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        folder_write(&folder, "gate/1.0.bin", "here", 4);
        folder_write(&outside, "1.0.bin", "mine", 4);
        folder_link(&folder, rows[i].to, "door");
        struct place_outcome added = place(&order), removed = take_out("door/1.0.bin");
        if (rows[i].reason == NULL) {
            assert_true(added.result == PLACE_DONE && removed.result == PLACE_DONE && !is_there("gate/1.0.bin"));
        } else {
            assert_true(folder_holds(&folder, "gate/1.0.bin", "here", 4));
            assert_says(&added, PLACE_FAILED, rows[i].reason, "link");
        }
        assert_true(removed.result == (rows[i].reason == NULL ? PLACE_DONE : PLACE_FAILED));
        assert_true(is_there("door")); /* the link itself is somebody's, and stays */
        assert_true(folder_holds(&outside, "1.0.bin", "mine", 4));
        folder_remove(&folder, "door");
    }
    free_order(&order);
}

/* --- in the way of the file --------------------------------------------------------------------------------------- */

static void make_folder(void)
{
    folder_write(&folder, "door/1.0.bin/inside", "x", 1);
}

static void make_link_to_folder(void)
{
    folder_write(&folder, "gate/inside", "x", 1);
    folder_link(&folder, "../gate", "door/1.0.bin");
}

static void make_fifo(void)
{
    folder_make_parents(&folder, "door/1.0.bin");
    assert_int_equal(mkfifo(in_folder(&folder, "door/1.0.bin").text, 0600), 0);
}

static void make_socket(void)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    folder_make_parents(&folder, "door/1.0.bin");
    assert_true((size_t)snprintf(name.sun_path, sizeof name.sun_path, "%s/door/1.0.bin", folder.path) <
                sizeof name.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof name), 0);
    close(fd);
}

static void make_link_to_device(void)
{
    folder_link(&folder, "/dev/null", "door/1.0.bin");
}

/* --replace replaces an image by an image: what is no file was put there by somebody who meant something else. */
static void test_no_file_under_the_name(void **state)
{
    (void)state;
    static const struct {
        void (*make)(void);
        const char *reason;
    } rows[] = {
        { make_folder, "a folder lies under that name" },
        { make_link_to_folder, "a folder lies under that name" },
        { make_fifo, "a FIFO lies" },
        { make_socket, "a socket lies" },
        { make_link_to_device, "a character device lies" },
    };
    for (size_t i = 0; i < 2 * COUNT_OF(rows); i++) {
        struct place_order order = order_of(1, 0, i % 2 != 0);
        rows[i / 2].make();
        struct place_outcome outcome = place(&order);
        assert_says(&outcome, PLACE_FAILED, rows[i / 2].reason, "by hand");
        assert_int_equal(folder_count(&folder, "door"), 1); /* and nothing half-written beside it */
        folder_remove(&folder, "door");
        free_order(&order);
    }
}

static void test_link_to_nowhere_under_the_name(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, false);
    struct file_path target = in_folder(&outside, "not-there");
    folder_link(&folder, target.text, "door/1.0.bin");
    struct place_outcome outcome = place(&order);
    assert_says(&outcome, PLACE_EXISTS, "a link to a file that is not there", "--replace");
    order.replace = true;
    assert_int_equal(place(&order).result, PLACE_DONE);
    assert_true(folder_holds(&folder, "door/1.0.bin", order.bytes, order.size));
    assert_int_equal(access(target.text, F_OK), -1); /* not written through the link */
    free_order(&order);
}

static void test_link_to_a_file_under_the_name(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, false);
    folder_write(&outside, "mine.bin", "mine", 4);
    folder_link(&folder, in_folder(&outside, "mine.bin").text, "door/1.0.bin");
    struct place_outcome outcome = place(&order);
    assert_says(&outcome, PLACE_EXISTS, "there already", "--replace");
    order.replace = true;
    assert_int_equal(place(&order).result, PLACE_DONE);
    assert_true(folder_holds(&folder, "door/1.0.bin", order.bytes, order.size));
    folder_link(&folder, in_folder(&outside, "mine.bin").text, "door/1.1.bin");
    assert_int_equal(take_out("door/1.1.bin").result, PLACE_DONE);
    assert_false(is_there("door/1.1.bin"));
    assert_true(folder_holds(&outside, "mine.bin", "mine", 4));
    free_order(&order);
}

/* --- a process of its own ----------------------------------------------------------------------------------------- */

/* What a child tells. */
static struct told {
    struct place_outcome outcome;
    size_t left; /* entries in the repository afterwards */
} * told;

/* Places in a child that `prepare` has made different. Returns false where that could not be. */
static bool place_elsewhere(bool (*prepare)(void), const struct place_order *order)
{
    int state = 0;
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(told != MAP_FAILED);
    pid_t child = fork();
    if (child == 0) {
        if (!prepare()) {
            _exit(77);
        }
        place_image(order, &told->outcome);
        told->left = folder_count(&folder, "");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &state, 0), child);
    if (!WIFEXITED(state) || (WEXITSTATUS(state) != 0 && WEXITSTATUS(state) != 77)) {
        fail_msg("the child ended with %d", state);
    }
    return WEXITSTATUS(state) == 0;
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    if (file != NULL) {
        fputs(text, file);
        fclose(file);
    }
}

/* A file system of its own over the repository, seen by this process alone. */
static bool mount_over(const char *options, unsigned long flags)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    bool alone = unshare(CLONE_NEWNS) == 0;
    if (!alone && unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) {
        put("/proc/self/uid_map", users);
        put("/proc/self/setgroups", "deny");
        put("/proc/self/gid_map", groups);
        alone = true;
    }
    return alone && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", folder.path, "tmpfs", flags, options) == 0;
}

static bool mount_small(void)
{
    return mount_over("size=64k", 0);
}

static bool mount_without_room_for_a_folder(void)
{
    return mount_over("nr_inodes=1", 0);
}

static bool mount_without_room_for_a_file(void)
{
    return mount_over("nr_inodes=2", 0);
}

static bool mount_read_only(void)
{
    return mount_over("size=64k", MS_RDONLY);
}

static bool limit_size(void)
{
    struct rlimit limit = { 20000, 20000 };
    signal(SIGXFSZ, SIG_IGN); /* as the server does */
    return setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

static bool give_up_rights(void)
{
    return geteuid() != 0 || seteuid(65534) == 0;
}

struct bad_place {
    bool (*prepare)(void);
    const char *reason, *remedy;
};

/* What does not fit leaves neither half an image nor an empty folder. Returns false where that could not be tried. */
static bool takes_nothing(const struct bad_place *bad)
{
    struct place_order order = order_of(1, 150000, false);
    bool tried = place_elsewhere(bad->prepare, &order);
    if (tried) {
        assert_says(&told->outcome, PLACE_FAILED, bad->reason, bad->remedy);
        assert_int_equal(told->left, 0);
    }
    free_order(&order);
    return tried;
}

/* Skipped where mounting is not allowed, as in most containers. */
static void test_disk_that_does_not_take_it(void **state)
{
    (void)state;
    static const struct bad_place rows[] = {
        { mount_small, "folder door is on a disk that is full", "firmware rm" },
        { mount_without_room_for_a_folder, "is on a disk that is full", "firmware rm" },
        { mount_without_room_for_a_file, "folder door is on a disk that is full", "firmware rm" },
        { mount_read_only, "is mounted read-only", ":ro" },
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        if (!takes_nothing(&rows[i])) {
            skip();
        }
    }
}

static void test_limit_that_does_not_take_it(void **state)
{
    (void)state;
    assert_true(takes_nothing(&(struct bad_place){ limit_size, "folder door takes no file as large", "LimitFSIZE" }));
}

static void test_folder_that_is_closed(void **state)
{
    (void)state;
    assert_int_equal(chmod(folder.path, 0555), 0);
    bool tried = takes_nothing(&(struct bad_place){ give_up_rights, "is closed to the server's user (uid ",
                                                    "server's user write to its --repo" });
    assert_int_equal(chmod(folder.path, 0755), 0);
    assert_true(tried);
}

static void test_no_descriptor_left(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, false);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = { 0, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct place_outcome outcome = place(&order);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_says(&outcome, PLACE_FAILED, "too many files open", "LimitNOFILE");
    free_order(&order);
}

/* --- several at once ---------------------------------------------------------------------------------------------- */

#define WRITERS 6

/* What a system call of this number is answered instead, where its fifth argument is not 0 (`flagged`) or always. */
struct denial {
    unsigned number;
    bool flagged;
    unsigned error;
};

static bool deny(const struct denial *denials, size_t count)
{
    struct sock_filter code[5 * 3 + 1];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denials[i].number, 0, 3);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[4]));
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, denials[i].flagged ? 1 : 0, 0);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | denials[i].error);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { .len = (unsigned short)n, .filter = code };
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool as_it_is(void)
{
    return true;
}

/* NFS and others: no RENAME_NOREPLACE. */
static bool without_noreplace(void)
{
    static const struct denial denials[] = { { SYS_renameat2, true, EINVAL } };
    return deny(denials, 1);
}

/* A container whose filter is older than the calls. */
static bool behind_an_old_filter(void)
{
    static const struct denial denials[] = { { SYS_renameat2, true, EPERM }, { SYS_openat2, false, EPERM } };
    return deny(denials, 2);
}

/* FAT: nor links. */
static bool without_links(void)
{
    static const struct denial denials[] = { { SYS_renameat2, true, EINVAL }, { SYS_linkat, false, EPERM } };
    return deny(denials, 2);
}

/* One wins, and its bytes lie there; the others are told. */
static void test_one_name_at_once(void **state)
{
    (void)state;
    static bool (*const prepares[])(void) = { as_it_is, without_noreplace, behind_an_old_filter };
    for (size_t i = 0; i < COUNT_OF(prepares); i++) {
        struct place_order orders[WRITERS];
        pid_t children[WRITERS];
        int start[2], winner = -1;
        assert_int_equal(pipe(start), 0);
        for (unsigned k = 0; k < WRITERS; k++) {
            orders[k] = order_of(k + 1, 60000, false);
            children[k] = fork();
            if (children[k] == 0) {
                char byte;
                close(start[1]);
                bool ready = prepares[i]() && read(start[0], &byte, 1) == 0;
                _exit(ready ? (int)place(&orders[k]).result : 99);
            }
        }
        close(start[0]);
        close(start[1]); /* go */
        for (int k = 0; k < WRITERS; k++) {
            int result = 0;
            assert_int_equal(waitpid(children[k], &result, 0), children[k]);
            assert_true(WIFEXITED(result));
            if (WEXITSTATUS(result) == PLACE_DONE) {
                assert_int_equal(winner, -1);
                winner = k;
            } else {
                assert_int_equal(WEXITSTATUS(result), PLACE_EXISTS);
            }
        }
        assert_true(winner >= 0 && folder_holds(&folder, "door/1.0.bin", orders[winner].bytes, orders[winner].size));
        assert_int_equal(folder_count(&folder, "door"), 1);
        folder_remove(&folder, "door");
        for (unsigned k = 0; k < WRITERS; k++) {
            free_order(&orders[k]);
        }
    }
}

static void test_file_systems_that_can_less(void **state)
{
    (void)state;
    static bool (*const prepares[])(void) = { without_noreplace, behind_an_old_filter, without_links };
    for (size_t i = 0; i < 2 * COUNT_OF(prepares); i++) {
        struct place_order order = order_of(1, 0, false), other = order_of(2, 0, i % 2 != 0);
        assert_true(place_elsewhere(prepares[i / 2], &order));
        assert_int_equal(told->outcome.result, PLACE_DONE);
        struct stat found;
        struct file_identity identity;
        assert_int_equal(stat(in_folder(&folder, "door/1.0.bin").text, &found), 0);
        file_identity_from(&found, &identity);
        assert_true(file_identity_equal(&identity, &told->outcome.identity));
        assert_int_equal(found.st_nlink, 1);

        assert_true(place_elsewhere(prepares[i / 2], &other));
        assert_int_equal(told->outcome.result, other.replace ? PLACE_DONE : PLACE_EXISTS);
        const struct place_order *there = other.replace ? &other : &order;
        assert_true(folder_holds(&folder, "door/1.0.bin", there->bytes, there->size));
        assert_int_equal(folder_count(&folder, "door"), 1);
        folder_remove(&folder, "door");
        free_order(&order);
        free_order(&other);
    }
}

/* Where nobody can tell where a link leads, none is followed. */
static void test_links_without_openat2(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, true);
    const char *const targets[] = { "gate", outside.path };
    for (size_t i = 0; i < COUNT_OF(targets); i++) {
        folder_write(&folder, "gate/1.0.bin", "here", 4);
        folder_write(&outside, "1.0.bin", "mine", 4);
        folder_link(&folder, targets[i], "door");
        assert_true(place_elsewhere(behind_an_old_filter, &order));
        assert_says(&told->outcome, PLACE_FAILED, "is a link that may lead out", "inside the repository");
        assert_true(folder_holds(&folder, "gate/1.0.bin", "here", 4) && folder_holds(&outside, "1.0.bin", "mine", 4));
        folder_remove(&folder, "door");
    }
    free_order(&order);
}

/* --- what a killed upload leaves ---------------------------------------------------------------------------------- */

#define REST "door/.updraft-upload-0123456789abcdef.tmp"

static void test_rests_go_with_the_next_upload(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, false);
    folder_write(&folder, REST, "half", 4);
    folder_write(&folder, "door/.updraft-upload.tmp", "half", 4);
    assert_int_equal(place(&order).result, PLACE_DONE);
    assert_int_equal(folder_count(&folder, "door"), 1);
    free_order(&order);
}

/* Nor what another process is just writing, nor what only looks like one. */
static void test_sweep(void **state)
{
    (void)state;
    folder_write(&folder, REST, "half", 4);
    folder_write(&folder, "gate/.updraft-upload-1.tmp", "half", 4);
    folder_write(&folder, "gate/.updraft-upload-2.tmp", "half", 4);
    folder_write(&folder, "gate/.updraft-upload-2.bin", "mine", 4);
    folder_write(&folder, ".git/.updraft-upload-2.tmp", "mine", 4);
    folder_write(&folder, "gate/1.0.bin", "image", 5);
    folder_write(&folder, "top.bin", "image", 5);
    folder_write(&outside, ".updraft-upload-3.tmp", "mine", 4);
    folder_link(&folder, outside.path, "out");
    folder_link(&folder, in_folder(&outside, ".updraft-upload-3.tmp").text, "gate/.updraft-upload-4.tmp");
    assert_int_equal(mkfifo(in_folder(&folder, "gate/.updraft-upload-5.tmp").text, 0600), 0);
    int held = open(in_folder(&folder, "gate/.updraft-upload-2.tmp").text, O_RDONLY);
    assert_int_equal(flock(held, LOCK_SH), 0);
    assert_int_equal(place_sweep(folder.path), 2);
    assert_true(!is_there(REST) && !is_there("gate/.updraft-upload-1.tmp"));
    assert_int_equal(folder_count(&folder, "gate"), 5);
    assert_true(is_there(".git/.updraft-upload-2.tmp") && is_there("top.bin"));
    assert_true(folder_holds(&outside, ".updraft-upload-3.tmp", "mine", 4));
    close(held);
    assert_int_equal(place_sweep(folder.path), 1); /* its writer is gone now */
    assert_int_equal(place_sweep("/nowhere/at/all"), 0);
}

/* While it is being written, its own temporary file is one that is held. */
static void test_upload_is_not_swept_away(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 100000, true);
    pid_t sweeper = fork();
    if (sweeper == 0) {
        for (int i = 0; i < 3000; i++) {
            (void)place_sweep(folder.path);
        }
        _exit(0);
    }
    for (int i = 0; i < 40; i++) {
        struct place_outcome outcome = place(&order);
        if (outcome.result != PLACE_DONE) {
            fail_msg("%s", outcome.message);
        }
    }
    assert_int_equal(kill(sweeper, SIGKILL), 0);
    assert_int_equal(waitpid(sweeper, NULL, 0), sweeper);
    free_order(&order);
}

/* A link laid under a temporary name must not have its target written over. */
static void test_temporary_name_that_is_a_link(void **state)
{
    (void)state;
    struct place_order order = order_of(1, 0, false);
    folder_write(&folder, "mine.txt", "mine", 4);
    folder_link(&folder, "../mine.txt", "door/.updraft-upload.tmp");
    assert_int_equal(place(&order).result, PLACE_DONE);
    assert_true(folder_holds(&folder, "mine.txt", "mine", 4));
    assert_true(folder_holds(&folder, "door/1.0.bin", order.bytes, order.size));
    free_order(&order);
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

static void test_remove(void **state)
{
    (void)state;
    folder_write(&folder, "door/1.0.bin", "a", 1);
    folder_write(&folder, "door/1.1.bin", "b", 1);
    folder_write(&folder, "LABEL.bin", "c", 1);
    assert_int_equal(take_out("door/1.0.bin").result, PLACE_DONE);
    assert_int_equal(folder_count(&folder, "door"), 1); /* the folder stays while it holds something */
    struct place_outcome outcome = take_out("door/1.0.bin");
    assert_says(&outcome, PLACE_FAILED, "it was taken away", "firmware ls");
    assert_int_equal(outcome.status, STATUS_NOT_FOUND);
    assert_int_equal(take_out("door/1.1.bin").result, PLACE_DONE);
    assert_int_equal(folder_count(&folder, ""), 1);
    assert_int_equal(take_out("LABEL.bin").result, PLACE_DONE);
    assert_int_equal(folder_count(&folder, ""), 0);
    folder_write(&folder, "door/1.0.bin/x", "d", 1);
    outcome = take_out("door/1.0.bin"); /* a folder is not what is removed */
    assert_says(&outcome, PLACE_FAILED, "it is a folder", "by hand");
    assert_int_equal(folder_count(&folder, "door/1.0.bin"), 1);
}

/* Files lie deeper, too, and links there are no other links. */
static void test_remove_below(void **state)
{
    (void)state;
    folder_write(&folder, "a/b/truc_1.0.ino.door.bin", "a", 1);
    folder_write(&outside, "x/truc_1.0.ino.door.bin", "a", 1);
    folder_link(&folder, outside.path, "a/out");
    assert_int_equal(take_out("a/b/truc_1.0.ino.door.bin").result, PLACE_DONE);
    assert_false(is_there("a/b"));
    assert_true(is_there("a"));
    assert_int_equal(take_out("a/out/x/truc_1.0.ino.door.bin").result, PLACE_FAILED);
    assert_int_equal(take_out("../x").result, PLACE_FAILED);
    assert_true(folder_holds(&outside, "x/truc_1.0.ino.door.bin", "a", 1));
}

static void test_remove_without_the_right(void **state)
{
    (void)state;
    folder_write(&folder, "door/1.0.bin", "a", 1);
    assert_int_equal(chmod(in_folder(&folder, "door").text, 0555), 0);
    bool is_root = geteuid() == 0;
    assert_int_equal(is_root ? seteuid(65534) : 0, 0);
    struct place_outcome outcome = take_out("door/1.0.bin");
    assert_int_equal(is_root ? seteuid(0) : 0, 0);
    assert_int_equal(chmod(in_folder(&folder, "door").text, 0755), 0);
    assert_says(&outcome, PLACE_FAILED, "removed: folder door is closed to the server's user (uid ", "--repo");
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_repository_that_is_none),
        IN_FOLDER(test_file_where_the_folder_should_be),
        IN_FOLDER(test_folder_that_is_a_link),
        IN_FOLDER(test_no_file_under_the_name),
        IN_FOLDER(test_link_to_nowhere_under_the_name),
        IN_FOLDER(test_link_to_a_file_under_the_name),
        IN_FOLDER(test_disk_that_does_not_take_it),
        IN_FOLDER(test_limit_that_does_not_take_it),
        IN_FOLDER(test_folder_that_is_closed),
        IN_FOLDER(test_no_descriptor_left),
        IN_FOLDER(test_one_name_at_once),
        IN_FOLDER(test_file_systems_that_can_less),
        IN_FOLDER(test_links_without_openat2),
        IN_FOLDER(test_rests_go_with_the_next_upload),
        IN_FOLDER(test_sweep),
        IN_FOLDER(test_upload_is_not_swept_away),
        IN_FOLDER(test_temporary_name_that_is_a_link),
        IN_FOLDER(test_remove),
        IN_FOLDER(test_remove_below),
        IN_FOLDER(test_remove_without_the_right),
    };
    cmocka_set_test_filter(getenv("TEST_FILTER")); /* NULL: all */
    cmocka_set_skip_filter(getenv("TEST_LEFT_OUT"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
