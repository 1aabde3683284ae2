/* One scan at a time: what happens while it runs asks for the next. What makes it hard: a scan borrows the catalog
 * before its own, so that catalog is held until the scan's result has been taken, whatever is published meanwhile. */
#include "repo/watch.h"

#include "base/log.h"
#include "repo/withdrawal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Events come in bursts; the first of a burst decides when we look. */
#define GATHER_MS 100
/* At start, devices are better served a moment later than told that nothing is there. */
#define FIRST_SETTLE_MS_MAX 3000

#define RETRY_MS 5000 /* after a scan that failed */

struct folder_watch {
    uv_fs_event_t event;
    struct watch *watch;
    char *path;
    uint64_t device, inode;
    bool wanted;
    bool doubtful; /* something happened to the folder itself */
    struct folder_watch *next;
};

struct watch {
    uv_loop_t *loop;
    char *root;
    char *cache_path;
    struct signature_keys *keys;
    uint64_t settle_ms, rescan_ms, next_ms;
    watch_catalog_fn on_catalog;
    void (*on_stopped)(void *owner);
    void *owner;
    uv_timer_t timer;
    uint64_t due_ms; /* when the timer is to fire; 0 = not set */
    uv_work_t work;
    bool scanning, again, stopping, watch_warned, failed;
    bool timer_closed;
    uint64_t first_ms; /* when the first scan began */
    size_t read;       /* files read and hashed since the last catalog was published */
    struct digest_cache *cache;
    struct catalog *current; /* the last that was published */
    enum watch_news news;    /* which was that */
    struct folder_watch *folders;
    size_t open_folders;
    /* the scan's while it runs */
    struct scan_input input;
    struct catalog *previous;    /* lent to it; NULL = none */
    struct signature_keys *lent; /* to it */
    struct scan_result result;
    enum status status;
    uint64_t started_ns;
};

static void start_scan(struct watch *watch);
static void try_finish(struct watch *watch);

static void look_after(struct watch *watch, uint64_t ms);

static void on_timer(uv_timer_t *timer)
{
    struct watch *watch = timer->data;
    watch->due_ms = 0;
    start_scan(watch);
}

/* Looks after `ms`, or sooner where that was planned. */
static void look_after(struct watch *watch, uint64_t ms)
{
    if (watch->stopping) {
        return;
    }
    uint64_t due_ms = uv_now(watch->loop) + ms;
    if (watch->due_ms == 0 || due_ms < watch->due_ms) {
        watch->due_ms = due_ms;
        uv_timer_start(&watch->timer, on_timer, ms, 0);
    }
}

/* --- folders ----------------------------------------------------------------------------------------------------- */

/* An event of the folder itself comes with its own last name (libuv's linux-inotify.c). */
static bool is_of_itself(const struct folder_watch *folder, const char *filename)
{
    const char *slash = strrchr(folder->path, '/');
    return filename == NULL || strcmp(filename, slash != NULL ? slash + 1 : folder->path) == 0;
}

static void on_change(uv_fs_event_t *event, const char *filename, int events, int error)
{
    struct folder_watch *folder = event->data;
    (void)events;
    folder->doubtful = folder->doubtful || error != 0 || is_of_itself(folder, filename);
    look_after(folder->watch, GATHER_MS);
}

static void on_folder_closed(uv_handle_t *handle)
{
    struct folder_watch *folder = handle->data;
    struct watch *watch = folder->watch;
    free(folder->path);
    free(folder);
    watch->open_folders--;
    try_finish(watch);
}

static void watch_folder(struct watch *watch, const struct scan_folder *found)
{
    char joined[4096];
    struct folder_watch *folder = calloc(1, sizeof *folder);
    assert(folder != NULL);
    folder->path = strdup(found->path);
    assert(folder->path != NULL);
    folder->device = found->device;
    folder->inode = found->inode;
    folder->watch = watch;
    folder->wanted = true;
    folder->event.data = folder;
    uv_fs_event_init(watch->loop, &folder->event);
    watch->open_folders++;
    snprintf(joined, sizeof joined, "%s/%s", watch->root, found->path);
    int error = uv_fs_event_start(&folder->event, on_change, joined, 0);
    if (error != 0) {
        if (!watch->watch_warned && error != UV_ENOENT) {
            watch->watch_warned = true;
            LOG_EVENT(LOG_WARN, "folder_not_watched", "folder", joined, "why", uv_strerror(error), "remedy",
                      "changes are found by --rescan-interval; raise fs.inotify.max_user_watches for at once");
        }
        uv_close((uv_handle_t *)&folder->event, on_folder_closed);
        return;
    }
    folder->next = watch->folders;
    watch->folders = folder;
    watch->again = true; /* what changed between the walk and now sent no event */
}

/* A folder that was deleted and made anew often has the same inode number, but no watch. */
static bool is_watching(const struct folder_watch *folder, const struct scan_folder *found)
{
    return !folder->doubtful && folder->device == found->device && folder->inode == found->inode &&
           strcmp(folder->path, found->path) == 0;
}

/* Watches what the scan walked, and no longer what is gone: a folder made anew under an old name is another one. */
static void follow_folders(struct watch *watch, const struct scan_result *result)
{
    for (struct folder_watch *folder = watch->folders; folder != NULL; folder = folder->next) {
        folder->wanted = false;
    }
    for (size_t i = 0; i < result->folder_count; i++) {
        struct folder_watch *folder = watch->folders;
        while (folder != NULL && !is_watching(folder, &result->folders[i])) {
            folder = folder->next;
        }
        if (folder != NULL) {
            folder->wanted = true;
        } else {
            watch_folder(watch, &result->folders[i]);
        }
    }
    for (struct folder_watch **at = &watch->folders; *at != NULL;) {
        struct folder_watch *folder = *at;
        if (folder->wanted) {
            at = &folder->next;
        } else {
            *at = folder->next;
            uv_close((uv_handle_t *)&folder->event, on_folder_closed);
        }
    }
}

/* --- what a scan found -------------------------------------------------------------------------------------------- */

static void log_rejection(const struct rejection *rejection)
{
    LOG_EVENT(LOG_WARN, "image_rejected", "file", rejection->path, "fault", image_fault_word(rejection->verdict.fault),
              "why", rejection->verdict.detail, "remedy", rejection->verdict.remedy);
}

static bool is_same_rejection(const struct rejection *before, const struct rejection *now)
{
    return before != NULL && file_identity_equal(&before->identity, &now->identity) &&
           before->verdict.fault == now->verdict.fault && strcmp(before->verdict.detail, now->verdict.detail) == 0;
}

/* Each rejection once, each image that came or went; at the first catalog the sum says enough of the images. */
static void log_difference(const struct catalog *before, const struct catalog *now)
{
    for (size_t i = 0; i < catalog_rejection_count(now); i++) {
        const struct rejection *rejection = catalog_rejection_at(now, i);
        if (before == NULL ||
            !is_same_rejection(catalog_find_rejection(before, slice_of(rejection->path)), rejection)) {
            log_rejection(rejection);
        }
    }
    for (size_t i = 0; before != NULL && i < catalog_image_count(now); i++) {
        const struct image *image = catalog_image_at(now, i);
        const struct image *old = catalog_find_path(before, slice_of(image->path));
        if (old != image) {
            const char *label = image->build.label[0] != '\0' ? image->build.label : NULL;
            LOG_EVENT(LOG_INFO, old == NULL ? "image_added" : "image_replaced", "file", image->path,
                      label != NULL ? "label" : "type", label != NULL ? label : image->type, "version",
                      image->build.version.text);
        }
    }
    for (size_t i = 0; before != NULL && i < catalog_image_count(before); i++) {
        const struct image *image = catalog_image_at(before, i);
        if (catalog_find_path(now, slice_of(image->path)) == NULL) {
            LOG_EVENT(LOG_INFO, "image_removed", "file", image->path);
        }
    }
}

static bool is_new(const struct catalog *before, const struct image *image)
{
    return before == NULL || catalog_find_path(before, slice_of(image->path)) != image;
}

/* Two programs, or two chips, under one type: its devices would get whichever has the higher version. Said once for
 * each pair of neighbours, when one of the two comes. */
static void warn_of_mixtures(const struct catalog *before, const struct catalog *now)
{
    for (size_t i = 1; i < catalog_image_count(now); i++) {
        const struct image *a = catalog_image_at(now, i - 1);
        const struct image *b = catalog_image_at(now, i);
        if (a->role != FILENAME_SKETCH || b->role != FILENAME_SKETCH || strcmp(a->type, b->type) != 0 ||
            (!is_new(before, a) && !is_new(before, b))) {
            continue;
        }
        if (a->project[0] != '\0' && b->project[0] != '\0' && strcmp(a->project, b->project) != 0) {
            LOG_EVENT(LOG_WARN, "projects_mixed", "type", a->type, "file", a->path, "other", b->path, "remedy",
                      "all devices of a type get its highest version: give each project types of its own");
        }
        if (a->build.facts.chip != b->build.facts.chip) {
            LOG_EVENT(LOG_WARN, "chips_mixed", "type", a->type, "file", a->path, "chip", chip_text(a->build.facts.chip),
                      "other", b->path, "other_chip", chip_text(b->build.facts.chip), "remedy",
                      "devices are refused the highest version where it is for the other chip: move one file");
        }
    }
}

static bool is_changed(const struct catalog *before, const struct catalog *now)
{
    size_t n = catalog_image_count(now);
    if (before == NULL || n != catalog_image_count(before) ||
        catalog_rejection_count(now) != catalog_rejection_count(before)) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (catalog_image_at(now, i) != catalog_image_at(before, i)) {
            return true;
        }
    }
    for (size_t i = 0; i < catalog_rejection_count(now); i++) {
        const struct rejection *rejection = catalog_rejection_at(now, i);
        if (!is_same_rejection(catalog_find_rejection(before, slice_of(rejection->path)), rejection)) {
            return true;
        }
    }
    return false;
}

static void log_catalog(const struct watch *watch, const struct catalog *catalog)
{
    struct log_line line;
    log_begin(&line, LOG_INFO, "catalog_published");
    log_number(&line, "images", (int64_t)catalog_image_count(catalog));
    log_number(&line, "types", (int64_t)catalog_type_count(catalog));
    log_number(&line, "rejected", (int64_t)catalog_rejection_count(catalog));
    log_number(&line, "read", (int64_t)watch->read);
    log_number(&line, "ms", watch->scanning ? (int64_t)((uv_hrtime() - watch->started_ns) / 1000000) : 0);
    log_end(&line);
}

static void publish(struct watch *watch, struct catalog *now, enum watch_news news)
{
    struct catalog *before = watch->current;
    catalog_adopt(now);
    if (is_changed(before, now)) {
        log_difference(before, now);
        warn_of_mixtures(before, now);
        log_catalog(watch, now);
    }
    watch->read = 0;
    watch->current = catalog_ref(now);
    watch->news = news;
    watch->on_catalog(watch->owner, now, news);
    catalog_unref(before);
}

/* The scan and what follows it are over: plan the next. */
static void finish_scan(struct watch *watch)
{
    watch->scanning = false;
    if (watch->stopping) {
        try_finish(watch);
        return;
    }
    look_after(watch, watch->again ? 0 : watch->next_ms);
    watch->again = false;
}

static void do_save(uv_work_t *work)
{
    struct watch *watch = work->data;
    enum status status = digest_cache_save(watch->cache, watch->cache_path);
    if (status != STATUS_OK) {
        LOG_EVENT(LOG_WARN, "digest_cache_not_saved", "file", watch->cache_path, "why", status_text(status), "remedy",
                  "make --state writable; until then images are read again after a restart");
    }
}

static void on_saved(uv_work_t *work, int cancelled)
{
    (void)cancelled;
    finish_scan(work->data);
}

static void scan_failed(struct watch *watch)
{
    if (!watch->failed) {
        LOG_EVENT(LOG_ERROR, "repository_unreadable", "path", watch->result.failed_path, "why",
                  status_text(watch->status), "remedy",
                  "what was served before is served on; make the folder readable again; one that was made anew needs a "
                  "restart (--sandbox-read)");
    }
    watch->failed = true;
    watch->next_ms = watch->rescan_ms < RETRY_MS ? watch->rescan_ms : RETRY_MS;
    if (watch->news == CATALOG_FOR_NOW && !watch->stopping && signature_keys_same(watch->lent, watch->keys)) {
        watch->news = CATALOG_NEXT;
        watch->on_catalog(watch->owner, catalog_ref(watch->current), CATALOG_NEXT);
    }
}

static void scan_succeeded(struct watch *watch)
{
    bool wait = watch->current == NULL && watch->result.unsettled > 0 &&
                uv_now(watch->loop) - watch->first_ms + watch->result.unsettled_ms < FIRST_SETTLE_MS_MAX;
    uint64_t soon_ms = watch->result.unsettled_ms;
    watch->failed = false;
    watch->read += watch->result.read;
    watch->next_ms = soon_ms > 0 && soon_ms < watch->rescan_ms ? soon_ms : watch->rescan_ms;
    follow_folders(watch, &watch->result);
    /* Where the keys changed meanwhile, another scan is due, and what those before vouched for is not begun with. */
    if (wait || !signature_keys_same(watch->lent, watch->keys)) {
        catalog_discard(watch->result.catalog);
    } else {
        publish(watch, watch->result.catalog, watch->current == NULL ? CATALOG_FIRST : CATALOG_NEXT);
    }
}

static void on_scan_done(uv_work_t *work, int cancelled)
{
    struct watch *watch = work->data;
    (void)cancelled;
    if (watch->status != STATUS_OK) {
        scan_failed(watch);
    } else if (watch->stopping) {
        catalog_discard(watch->result.catalog);
    } else {
        scan_succeeded(watch);
    }
    scan_result_close(&watch->result);
    signature_keys_unref(watch->lent);
    watch->lent = NULL;
    catalog_unref(watch->previous);
    watch->previous = NULL;
    /* Saved after publishing: a slow disk must not keep a new image from the devices. */
    bool save = watch->status == STATUS_OK && digest_cache_has_changed(watch->cache);
    if (!save || uv_queue_work(watch->loop, &watch->work, do_save, on_saved) != 0) {
        finish_scan(watch);
    }
}

static void do_scan(uv_work_t *work)
{
    struct watch *watch = work->data;
    if (watch->input.cache == NULL) {
        watch->cache = watch->input.cache = digest_cache_new();
        assert(watch->cache != NULL);
        enum status status = digest_cache_load(watch->cache, watch->cache_path);
        if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
            LOG_EVENT(LOG_WARN, "digest_cache_ignored", "file", watch->cache_path, "why", status_text(status), "remedy",
                      "none needed: every image is read once and the file written anew");
        }
    }
    watch->status = scan_run(&watch->input, &watch->result);
}

static void start_scan(struct watch *watch)
{
    if (watch->scanning) {
        watch->again = true;
        return;
    }
    watch->scanning = true;
    watch->started_ns = uv_hrtime();
    watch->lent = signature_keys_ref(watch->keys);
    watch->previous = catalog_ref(watch->current);
    watch->input = (struct scan_input){
        .root = watch->root,
        .previous = watch->previous,
        .cache = watch->cache,
        .keys = watch->lent,
        .settle_ms = watch->settle_ms,
    };
    int error = uv_queue_work(watch->loop, &watch->work, do_scan, on_scan_done);
    assert(error == 0);
    (void)error;
}

/* --- life -------------------------------------------------------------------------------------------------------- */

struct watch *watch_start(uv_loop_t *loop, const struct watch_config *config, watch_catalog_fn on_catalog, void *owner)
{
    struct watch *watch = calloc(1, sizeof *watch);
    assert(watch != NULL);
    watch->loop = loop;
    watch->root = strdup(config->root);
    watch->cache_path = strdup(config->cache_path);
    assert(watch->root != NULL && watch->cache_path != NULL);
    watch->keys = signature_keys_ref(config->keys);
    watch->on_catalog = on_catalog;
    watch->owner = owner;
    watch->work.data = watch;
    watch->timer.data = watch;
    uv_timer_init(loop, &watch->timer);
    watch_configure(watch, config->settle_ms, config->rescan_ms);
    watch->first_ms = uv_now(loop);
    start_scan(watch);
    return watch;
}

void watch_configure(struct watch *watch, uint64_t settle_ms, uint64_t rescan_ms)
{
    watch->settle_ms = settle_ms;
    watch->rescan_ms = rescan_ms;
}

/* Not left to the scan: whoever can write to the repository can make it fail, or take as long as he likes. */
void watch_use_keys(struct watch *watch, struct signature_keys *keys)
{
    struct signature_keys *before = watch->keys;
    struct catalog *rest = watch->current != NULL ? withdrawal_of(watch->current, keys) : NULL;
    watch->keys = signature_keys_ref(keys);
    signature_keys_unref(before);
    if (rest != NULL) {
        publish(watch, rest, CATALOG_FOR_NOW);
    }
    watch_rescan(watch);
}

void watch_rescan(struct watch *watch)
{
    look_after(watch, 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct watch *watch = handle->data;
    watch->timer_closed = true;
    try_finish(watch);
}

static void try_finish(struct watch *watch)
{
    if (!watch->stopping || watch->scanning || !watch->timer_closed || watch->open_folders > 0) {
        return;
    }
    catalog_unref(watch->current);
    digest_cache_free(watch->cache);
    signature_keys_unref(watch->keys);
    void (*on_stopped)(void *) = watch->on_stopped;
    void *owner = watch->owner;
    free(watch->root);
    free(watch->cache_path);
    free(watch);
    on_stopped(owner);
}

void watch_stop(struct watch *watch, void (*on_stopped)(void *owner))
{
    assert(!watch->stopping);
    watch->stopping = true;
    watch->on_stopped = on_stopped;
    uv_close((uv_handle_t *)&watch->timer, on_timer_closed);
    while (watch->folders != NULL) {
        struct folder_watch *folder = watch->folders;
        watch->folders = folder->next;
        uv_close((uv_handle_t *)&folder->event, on_folder_closed);
    }
}
