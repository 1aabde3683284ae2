/* Walks the repository, decides of each file whether it is whole, and checks what was not known.
 *
 * What makes it hard: nothing announces that a copy is finished. A file counts as whole when nobody has it open for
 * writing (a read lease would be refused) and it has looked the same for settle_ms; and its bytes were read only if it
 * looks the same after reading as before. */
#include "repo/scan.h"

#include "repo/judgement.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A program that keeps a finished file open for writing does not hide it for ever. */
#define WRITER_PATIENCE_MS        30000
#define SPIFFS_WRITER_PATIENCE_MS 600000
#define SPIFFS_REST_MS            5000
/* Not every cure of an unreadable file is an event. */
#define UNREADABLE_RETRY_MS 5000
/* For a file that is not whole although it settled, however short settle_ms is. */
#define LOOK_AGAIN_MS_MIN 100

struct scan {
    const struct scan_input *input;
    struct scan_result *result;
    struct catalog *catalog;
    uint64_t now_ms; /* monotonic */
    int64_t wall_now_ns;
    size_t folder_room;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- is it whole? ------------------------------------------------------------------------------------------------ */

enum writer { WRITER_NONE, WRITER_THERE, WRITER_UNKNOWN };

/* Whether some process has the file open for writing: then the system refuses a read lease. It grants leases to the
 * file's owner alone (and to root), and not on every file system; then nobody knows.
 * SIGURG, ignored by default, replaces the deadly SIGIO should a writer come while we hold the lease. */
static enum writer find_writer(int file)
{
    (void)fcntl(file, F_SETSIG, SIGURG);
    if (fcntl(file, F_SETLEASE, F_RDLCK) == 0) {
        (void)fcntl(file, F_SETLEASE, F_UNLCK);
        return WRITER_NONE;
    }
    return errno == EAGAIN ? WRITER_THERE : WRITER_UNKNOWN;
}

/* How long a file must have been quiet although it passed its checks. A SPIFFS image has no length and no checksum, so
 * the first half of one passes too: where somebody still has it open, or nobody knows, it has to rest. */
static uint64_t rest_ms(const struct image_facts *facts, enum writer writer)
{
    if (facts->kind != IMAGE_SPIFFS || writer == WRITER_NONE) {
        return 0;
    }
    return writer == WRITER_THERE ? SPIFFS_WRITER_PATIENCE_MS : SPIFFS_REST_MS;
}

/* How long to wait until the file may count as unchanged; 0 = it does. */
static uint64_t unsettled_ms(const struct scan *scan, const char *path, const struct file_identity *identity,
                             uint64_t *seen_ms)
{
    uint64_t settle_ms = scan->input->settle_ms;
    int64_t age_ns = scan->wall_now_ns - identity->ctime_ns;
    *seen_ms = scan->now_ms;
    if (age_ns >= 0 && (uint64_t)age_ns >= settle_ms * 1000000u) {
        return 0;
    }
    uint64_t seen;
    if (scan->input->previous != NULL && catalog_awaited_since(scan->input->previous, path, identity, &seen)) {
        *seen_ms = seen;
    }
    uint64_t watched_ms = scan->now_ms - *seen_ms;
    uint64_t by_looking = watched_ms >= settle_ms ? 0 : settle_ms - watched_ms;
    if (age_ns < 0) {
        return by_looking; /* another machine's clock, ahead of ours */
    }
    uint64_t by_clock = settle_ms - (uint64_t)age_ns / 1000000u;
    return by_clock < by_looking ? by_clock : by_looking;
}

static void look_again_after(struct scan *scan, uint64_t ms)
{
    ms = ms > 0 ? ms : 1;
    if (scan->result->unsettled_ms == 0 || ms < scan->result->unsettled_ms) {
        scan->result->unsettled_ms = ms;
    }
}

static uint64_t look_again_ms(const struct scan *scan)
{
    return scan->input->settle_ms > LOOK_AGAIN_MS_MIN ? scan->input->settle_ms : LOOK_AGAIN_MS_MIN;
}

/* --- one file ---------------------------------------------------------------------------------------------------- */

static void remember(struct scan *scan, const char *path, const struct file_identity *identity, enum image_use use,
                     const struct judgement *judgement)
{
    struct digest_finding finding;
    memset(&finding, 0, sizeof finding);
    finding.use = use;
    finding.accepted = judgement->good;
    finding.seal = judgement->seal;
    if (judgement->good) {
        finding.facts = judgement->facts;
    } else {
        finding.verdict = judgement->verdict;
    }
    /* A full cache costs another reading at the next start, nothing else. */
    (void)digest_cache_put(scan->input->cache, slice_of(path), identity, &finding);
}

/* How long a .sig that was found wanting may still be under way; 0 = it is not, or there is none. */
static uint64_t seal_unsettled_ms(const struct scan *scan, const struct judgement *judgement)
{
    int64_t age_ms = (scan->wall_now_ns - judgement->seal.detached.ctime_ns) / 1000000;
    int64_t settle_ms = (int64_t)scan->input->settle_ms;
    bool rests = judgement->good || judgement->seal.detached.inode == 0 || age_ms < -settle_ms || age_ms >= settle_ms;
    return rests ? 0 : look_again_ms(scan);
}

static void refuse_unreadable(struct scan *scan, const struct judged_file *place, const struct filename *name,
                              const struct file_identity *identity, const struct image_verdict *verdict)
{
    catalog_reject(scan->catalog, place->path, name, identity, verdict);
    look_again_after(scan, UNREADABLE_RETRY_MS);
}

static void take(struct scan *scan, const struct judged_file *place, const struct filename *name,
                 const struct file_identity *identity, const struct judgement *judgement)
{
    bool unreadable = !judgement->good && judgement->verdict.fault == IMAGE_FAULT_UNREADABLE;
    if (unreadable) { /* our own want of memory, or a .sig that we may not read: no word on the file */
        refuse_unreadable(scan, place, name, identity, &judgement->verdict);
        return;
    }
    remember(scan, place->path, identity, image_use_of(name), judgement);
    if (judgement->good) {
        catalog_add(scan->catalog, place->path, name, &judgement->facts, identity)->seal = judgement->seal;
    } else {
        catalog_reject(scan->catalog, place->path, name, identity, &judgement->verdict);
    }
}

/* Reads and checks an opened file that has been quiet for quiet_ms. Returns 0, or how long to wait until it may be
 * looked at again: it changed under the reading, or has to rest, or its .sig has. */
static uint64_t examine(struct scan *scan, int file, const struct judged_file *place, const struct filename *name,
                        const struct file_identity *identity, enum writer writer, uint64_t quiet_ms)
{
    struct judgement judgement;
    struct file_identity after;
    uint8_t *bytes = file_read_all(file, identity->size);
    if (bytes == NULL && errno == ESTALE) {
        return look_again_ms(scan);
    }
    if (bytes == NULL) {
        verdict_say(&judgement.verdict, IMAGE_FAULT_UNREADABLE, strerror(errno),
                    "check the file and its medium, then copy it again");
        refuse_unreadable(scan, place, name, identity, &judgement.verdict);
        return 0;
    }
    judge(scan->input->keys, place, name, bytes, identity->size, &judgement);
    free(bytes);
    scan->result->read++;
    if (!file_identity_of(file, &after) || !file_identity_equal(&after, identity)) {
        return look_again_ms(scan);
    }
    if (judgement.good && quiet_ms < rest_ms(&judgement.facts, writer)) {
        return rest_ms(&judgement.facts, writer) - quiet_ms;
    }
    uint64_t wait_ms = seal_unsettled_ms(scan, &judgement);
    if (wait_ms == 0) {
        take(scan, place, name, identity, &judgement);
    }
    return wait_ms;
}

/* Whether a verdict depends on the keys and on the .sig. */
static bool is_about_seal(const struct digest_finding *finding)
{
    return finding->accepted || finding->verdict.fault == IMAGE_FAULT_UNSIGNED ||
           finding->verdict.fault == IMAGE_FAULT_WRONG_SIGNATURE || finding->verdict.fault == IMAGE_FAULT_UNKNOWN_KEY;
}

/* What an earlier scan, or an earlier process, learned of exactly this state of the file and of its .sig. */
static bool take_known(struct scan *scan, const struct judged_file *place, const struct filename *name,
                       const struct file_identity *identity)
{
    const struct catalog *previous = scan->input->previous;
    const struct digest_finding *finding =
        digest_cache_find(scan->input->cache, slice_of(place->path), identity, image_use_of(name));
    struct image *image = previous != NULL ? catalog_find_path(previous, slice_of(place->path)) : NULL;
    struct seal seal;
    seal_of(scan->input->keys, place->folder, place->entry, &seal);
    if (image != NULL && file_identity_equal(&image->identity, identity) && seal_equal(&image->seal, &seal)) {
        catalog_share(scan->catalog, image);
        return true;
    }
    if (finding == NULL || (is_about_seal(finding) && !seal_equal(&finding->seal, &seal))) {
        return false;
    }
    if (finding->accepted) {
        catalog_add(scan->catalog, place->path, name, &finding->facts, identity)->seal = finding->seal;
    } else {
        catalog_reject(scan->catalog, place->path, name, identity, &finding->verdict);
    }
    return true;
}

/* Not whole yet. Where the file replaces an image, that one stays until then: who has its bytes in memory is served,
 * nobody falls back to the version before. */
static void await(struct scan *scan, const char *path, const struct filename *name,
                  const struct file_identity *identity, uint64_t seen_ms)
{
    const struct catalog *previous = scan->input->previous;
    struct image *replaced = previous != NULL ? catalog_find_path(previous, slice_of(path)) : NULL;
    if (replaced != NULL && seal_stands(&replaced->seal, scan->input->keys)) {
        catalog_share(scan->catalog, replaced);
    }
    catalog_expect(scan->catalog, path, name, identity, seen_ms);
    scan->result->unsettled++;
}

static void scan_opened(struct scan *scan, int file, const struct judged_file *place, const struct filename *name)
{
    const char *path = place->path;
    struct file_identity identity;
    struct image_verdict verdict;
    uint64_t seen_ms;
    if (!file_identity_of(file, &identity)) {
        verdict_say(&verdict, IMAGE_FAULT_UNREADABLE, "not a regular file", "put a plain file there");
        catalog_reject(scan->catalog, path, name, NULL, &verdict);
        return;
    }
    uint64_t wait_ms = unsettled_ms(scan, path, &identity, &seen_ms);
    enum writer writer = wait_ms == 0 ? find_writer(file) : WRITER_NONE;
    int64_t age_ms = (scan->wall_now_ns - identity.ctime_ns) / 1000000;
    uint64_t watched_ms = scan->now_ms - seen_ms;
    uint64_t quiet_ms = age_ms > 0 && (uint64_t)age_ms > watched_ms ? (uint64_t)age_ms : watched_ms;
    if (writer == WRITER_THERE && quiet_ms < WRITER_PATIENCE_MS) {
        wait_ms = look_again_ms(scan);
    }
    if (wait_ms == 0 && identity.size > IMAGE_BYTES_MAX) {
        verdict_say(&verdict, IMAGE_FAULT_TOO_LARGE, "larger than 32 MiB",
                    "no device of these families has room for it");
        catalog_reject(scan->catalog, path, name, &identity, &verdict);
        return;
    }
    if (wait_ms == 0) {
        wait_ms = examine(scan, file, place, name, &identity, writer, quiet_ms);
    }
    if (wait_ms > 0) {
        await(scan, path, name, &identity, seen_ms);
        look_again_after(scan, wait_ms);
    }
}

static void scan_file(struct scan *scan, const struct judged_file *place)
{
    const char *path = place->path;
    struct filename name;
    struct filename_refusal refusal;
    struct image_verdict verdict;
    struct file_identity identity;
    struct stat stat;
    enum filename_result result = filename_parse(slice_of(path), &name, &refusal);
    if (result == FILENAME_IGNORED) {
        return;
    }
    scan->result->files++;
    if (result == FILENAME_REFUSED) {
        verdict_say(&verdict, IMAGE_FAULT_NAME, refusal.detail, refusal.remedy);
        catalog_reject(scan->catalog, path, NULL, NULL, &verdict);
        return;
    }
    if (fstatat(place->folder, place->entry, &stat, 0) == 0) {
        file_identity_from(&stat, &identity);
        if (S_ISREG(stat.st_mode) && take_known(scan, place, &name, &identity)) {
            return;
        }
    }
    int file = openat(place->folder, place->entry, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0) {
        if (errno == ENOENT) {
            return; /* gone since the folder was read, or a link to nowhere */
        }
        verdict_say(&verdict, IMAGE_FAULT_UNREADABLE, strerror(errno),
                    "let the server's user read the file; a link out of the repository needs --sandbox-read");
        refuse_unreadable(scan, place, &name, NULL, &verdict);
        return;
    }
    scan_opened(scan, file, place, &name);
    close(file);
}

/* --- the walk ---------------------------------------------------------------------------------------------------- */

static enum status fail_at(struct scan *scan, const char *path, enum status status)
{
    snprintf(scan->result->failed_path, sizeof scan->result->failed_path, "%s%s%s", scan->input->root,
             path[0] != '\0' ? "/" : "", path);
    return status;
}

static enum status remember_folder(struct scan *scan, int descriptor, const char *path)
{
    struct scan_result *result = scan->result;
    struct stat stat;
    if (fstat(descriptor, &stat) != 0) {
        return fail_at(scan, path, status_from_errno(errno));
    }
    if (result->folder_count >= SCAN_FOLDERS_MAX) {
        return fail_at(scan, path, STATUS_LIMIT);
    }
    if (result->folder_count == scan->folder_room) {
        scan->folder_room = scan->folder_room == 0 ? 16 : scan->folder_room * 2;
        struct scan_folder *grown = realloc(result->folders, scan->folder_room * sizeof *grown);
        assert(grown != NULL);
        result->folders = grown;
    }
    char *copy = strdup(path);
    assert(copy != NULL);
    result->folders[result->folder_count++] =
        (struct scan_folder){ .path = copy, .device = stat.st_dev, .inode = stat.st_ino };
    return STATUS_OK;
}

static bool is_folder(int folder, const struct dirent *entry)
{
    struct stat stat;
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK) {
        return entry->d_type == DT_DIR;
    }
    return fstatat(folder, entry->d_name, &stat, 0) == 0 && S_ISDIR(stat.st_mode);
}

/* Whether a link led from a folder back into one above it: its files would be found again under other names. */
static bool is_loop(const struct scan *scan, int descriptor, const char *path)
{
    struct stat stat;
    if (fstat(descriptor, &stat) != 0) {
        return false;
    }
    for (size_t i = 0; i < scan->result->folder_count; i++) {
        const struct scan_folder *folder = &scan->result->folders[i];
        size_t n = strlen(folder->path);
        bool above = n == 0 || (strncmp(folder->path, path, n) == 0 && path[n] == '/');
        if (above && folder->device == stat.st_dev && folder->inode == stat.st_ino) {
            return true;
        }
    }
    return false;
}

static enum status walk_folder(struct scan *scan, int descriptor, const char *path, unsigned depth);

static enum status scan_entry(struct scan *scan, int folder, const struct dirent *entry, const char *path,
                              unsigned depth)
{
    char joined[1024];
    if (entry->d_name[0] == '.') {
        return STATUS_OK; /* hidden, and the temporary names of rsync */
    }
    int n = snprintf(joined, sizeof joined, "%s%s%s", path, path[0] != '\0' ? "/" : "", entry->d_name);
    if (n >= (int)sizeof joined) {
        return STATUS_OK; /* no name of ours is that long */
    }
    if (!is_folder(folder, entry)) {
        if (scan->result->files >= SCAN_FILES_MAX) {
            return fail_at(scan, joined, STATUS_LIMIT);
        }
        scan_file(scan, &(struct judged_file){ folder, entry->d_name, joined });
        return STATUS_OK;
    }
    if (depth >= SCAN_DEPTH_MAX) {
        return STATUS_OK;
    }
    int child = openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (child < 0 && errno == EACCES) {
        struct image_verdict verdict;
        verdict_say(&verdict, IMAGE_FAULT_UNREADABLE, "folder: permission denied",
                    "let the server's user read the folder; a link out of the repository needs --sandbox-read");
        catalog_reject(scan->catalog, joined, NULL, NULL, &verdict);
        return STATUS_OK;
    }
    if (child < 0) {
        return errno == ENOENT ? STATUS_OK : fail_at(scan, joined, status_from_errno(errno));
    }
    if (is_loop(scan, child, joined)) {
        close(child);
        return STATUS_OK;
    }
    return walk_folder(scan, child, joined, depth + 1);
}

/* Takes the descriptor. */
static enum status walk_folder(struct scan *scan, int descriptor, const char *path, unsigned depth)
{
    DIR *folder = fdopendir(descriptor);
    if (folder == NULL) {
        close(descriptor);
        return fail_at(scan, path, status_from_errno(errno));
    }
    enum status status = remember_folder(scan, dirfd(folder), path);
    while (status == STATUS_OK) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            status = errno != 0 ? fail_at(scan, path, status_from_errno(errno)) : STATUS_OK;
            break;
        }
        status = scan_entry(scan, dirfd(folder), entry, path, depth);
    }
    closedir(folder);
    return status;
}

enum status scan_run(const struct scan_input *input, struct scan_result *result)
{
    *result = (struct scan_result){ .catalog = NULL };
    struct scan scan = { .input = input, .result = result, .catalog = catalog_new() };
    scan.now_ms = clock_ns(CLOCK_MONOTONIC) / 1000000u;
    scan.wall_now_ns = (int64_t)clock_ns(CLOCK_REALTIME);
    int root = open(input->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = root < 0 ? fail_at(&scan, "", status_from_errno(errno)) : walk_folder(&scan, root, "", 0);
    catalog_seal(scan.catalog);
    if (status != STATUS_OK) {
        catalog_discard(scan.catalog);
        return status;
    }
    (void)digest_cache_forget_untouched(input->cache);
    result->catalog = scan.catalog;
    return STATUS_OK;
}

void scan_result_close(struct scan_result *result)
{
    for (size_t i = 0; i < result->folder_count; i++) {
        free(result->folders[i].path);
    }
    free(result->folders);
    result->folders = NULL;
    result->folder_count = 0;
}
