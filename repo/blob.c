/* A blob is loading, held, or idle. What makes it hard: the load runs on another thread while its askers may leave,
 * and the image may leave the catalog; so a blob counts its image, and askers can be taken back one by one. */
#include "repo/blob.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_BYTES (256u << 10)

struct load {
    uv_work_t work;
    struct blob *blob;
    char *path;
    struct file_identity identity;
    uint8_t sha256[32];
    size_t size;
    int fd;
    const uint8_t *bytes;
    enum status status;
};

/* --- on the worker thread ---------------------------------------------------------------------------------------- */

static enum status copy_bytes(int from, int to, size_t size, uint8_t sha256[32])
{
    enum status status = STATUS_OK;
    unsigned char *piece = malloc(COPY_BYTES);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    if (piece == NULL || digest == NULL || EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1) {
        status = STATUS_NO_MEMORY;
        goto done;
    }
    for (size_t copied = 0; copied < size;) {
        size_t want = size - copied < COPY_BYTES ? size - copied : COPY_BYTES;
        ssize_t n = read(from, piece, want);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            status = n < 0 ? status_from_errno(errno) : STATUS_CHANGED;
            goto done;
        }
        if (write(to, piece, (size_t)n) != n) {
            status = STATUS_NO_MEMORY;
            goto done;
        }
        EVP_DigestUpdate(digest, piece, (size_t)n);
        copied += (size_t)n;
    }
    EVP_DigestFinal_ex(digest, sha256, NULL);
done:
    EVP_MD_CTX_free(digest);
    free(piece);
    return status;
}

static enum status load_sealed(struct load *load, int file)
{
    struct file_identity identity;
    uint8_t sha256[32];
    if (!file_identity_of(file, &identity)) {
        return STATUS_IO;
    }
    if (!file_identity_equal(&identity, &load->identity)) {
        return STATUS_CHANGED;
    }
    load->fd = memfd_create("updraft-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (load->fd < 0) {
        return status_from_errno(errno);
    }
    enum status status = copy_bytes(file, load->fd, load->size, sha256);
    if (status != STATUS_OK) {
        return status;
    }
    if (memcmp(sha256, load->sha256, sizeof sha256) != 0) {
        return STATUS_CHANGED;
    }
    if (fcntl(load->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return STATUS_IO;
    }
    void *bytes = mmap(NULL, load->size, PROT_READ, MAP_SHARED, load->fd, 0);
    if (bytes == MAP_FAILED) {
        return STATUS_NO_MEMORY;
    }
    load->bytes = bytes;
    return STATUS_OK;
}

static void load_work(uv_work_t *work)
{
    struct load *load = work->data;
    int file = open(load->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0) {
        load->status = status_from_errno(errno);
        return;
    }
    load->status = load_sealed(load, file);
    close(file);
    if (load->status != STATUS_OK && load->fd >= 0) {
        close(load->fd);
        load->fd = -1;
    }
}

/* --- on the loop ------------------------------------------------------------------------------------------------- */

static void idle_remove(struct blob *blob)
{
    struct blob_store *store = blob->store;
    *(blob->previous_idle != NULL ? &blob->previous_idle->next_idle : &store->oldest_idle) = blob->next_idle;
    *(blob->next_idle != NULL ? &blob->next_idle->previous_idle : &store->newest_idle) = blob->previous_idle;
    blob->next_idle = blob->previous_idle = NULL;
}

static void idle_append(struct blob *blob)
{
    struct blob_store *store = blob->store;
    blob->previous_idle = store->newest_idle;
    *(store->newest_idle != NULL ? &store->newest_idle->next_idle : &store->oldest_idle) = blob;
    store->newest_idle = blob;
    blob->idle_since_ms = uv_now(store->loop);
}

static void check_stopped(struct blob_store *store);

/* The blob is neither idle nor loading any more. */
static void blob_free(struct blob *blob)
{
    struct blob_store *store = blob->store;
    assert(blob->holders == 0 && !blob->loading);
    if (blob->bytes != NULL) {
        munmap((void *)(uintptr_t)blob->bytes, blob->size);
        close(blob->fd);
    }
    store->bytes_used -= blob->size;
    store->blobs--;
    if (blob->image->blob == blob) {
        blob->image->blob = NULL;
    }
    image_unref(blob->image);
    free(blob);
    check_stopped(store);
}

static void let_go_oldest(struct blob_store *store)
{
    struct blob *blob = store->oldest_idle;
    idle_remove(blob);
    blob_free(blob);
}

static void on_idle_timer(uv_timer_t *timer)
{
    struct blob_store *store = timer->data;
    uint64_t now_ms = uv_now(store->loop);
    while (store->oldest_idle != NULL && now_ms - store->oldest_idle->idle_since_ms >= store->idle_ms) {
        let_go_oldest(store);
    }
    if (store->oldest_idle != NULL) {
        uint64_t due_ms = store->oldest_idle->idle_since_ms + store->idle_ms - now_ms;
        uv_timer_start(timer, on_idle_timer, due_ms, 0);
    }
}

/* One by one, as an answer may take other askers back. */
static void answer_all(struct blob *blob, enum status status)
{
    blob->holders++; /* it stays while the askers are told */
    if (status != STATUS_OK) {
        blob->image->blob = NULL; /* who asks anew, even from here, loads anew, and the room is free */
        blob->store->bytes_used -= blob->size;
        blob->size = 0;
    }
    while (blob->waiting != NULL) {
        struct blob_wait *wait = blob->waiting;
        blob->waiting = wait->next;
        wait->blob = NULL;
        if (status == STATUS_OK) {
            blob->holders++;
        }
        wait->ready(wait, status, status == STATUS_OK ? blob : NULL);
    }
    if (status == STATUS_OK) {
        blob_release(blob);
    } else {
        blob->holders--;
        blob_free(blob);
    }
}

static void on_load_done(uv_work_t *work, int cancelled)
{
    struct load *load = work->data;
    struct blob *blob = load->blob;
    (void)cancelled;
    blob->loading = false;
    blob->fd = load->fd;
    blob->bytes = load->bytes;
    enum status status = load->status;
    free(load->path);
    free(load);
    answer_all(blob, status);
}

static bool make_room(struct blob_store *store, size_t size)
{
    while ((store->bytes_used + size > store->bytes_max || store->blobs >= BLOBS_MAX) && store->oldest_idle != NULL) {
        let_go_oldest(store);
    }
    return store->bytes_used + size <= store->bytes_max && store->blobs < BLOBS_MAX;
}

static struct load *load_new(struct blob_store *store, const struct image *image)
{
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) {
        return NULL;
    }
    size_t size = strlen(store->root) + strlen(image->path) + 2;
    load->path = malloc(size);
    if (load->path == NULL) {
        free(load);
        return NULL;
    }
    snprintf(load->path, size, "%s/%s", store->root, image->path);
    load->work.data = load;
    load->identity = image->identity;
    memcpy(load->sha256, image->build.facts.sha256, sizeof load->sha256);
    load->size = image->build.facts.file_bytes;
    load->fd = -1;
    return load;
}

static enum status start_loading(struct blob_store *store, struct image *image)
{
    size_t size = image->build.facts.file_bytes;
    if (!make_room(store, size)) {
        return STATUS_LIMIT;
    }
    struct blob *blob = calloc(1, sizeof *blob);
    struct load *load = load_new(store, image);
    if (blob == NULL || load == NULL || uv_queue_work(store->loop, &load->work, load_work, on_load_done) != 0) {
        if (load != NULL) {
            free(load->path);
        }
        free(load);
        free(blob);
        return STATUS_NO_MEMORY;
    }
    blob->store = store;
    blob->image = image;
    blob->size = size;
    blob->fd = -1;
    blob->loading = true;
    load->blob = blob;
    image_ref(image);
    image->blob = blob;
    store->bytes_used += size;
    store->blobs++;
    return STATUS_OK;
}

void blob_get(struct blob_store *store, struct image *image, struct blob_wait *wait)
{
    assert(!store->stopping);
    if (image->blob == NULL) {
        enum status status = start_loading(store, image);
        if (status != STATUS_OK) {
            wait->blob = NULL;
            wait->ready(wait, status, NULL);
            return;
        }
    }
    struct blob *blob = image->blob;
    if (blob->loading) {
        wait->blob = blob;
        wait->next = NULL;
        struct blob_wait **last = &blob->waiting;
        while (*last != NULL) {
            last = &(*last)->next;
        }
        *last = wait;
        return;
    }
    if (blob->holders++ == 0) {
        idle_remove(blob);
    }
    wait->blob = NULL;
    wait->ready(wait, STATUS_OK, blob);
}

void blob_cancel(struct blob_wait *wait)
{
    if (wait->blob == NULL) {
        return;
    }
    struct blob_wait **at = &wait->blob->waiting;
    while (*at != wait) {
        assert(*at != NULL);
        at = &(*at)->next;
    }
    *at = wait->next;
    wait->blob = NULL;
}

void blob_release(struct blob *blob)
{
    struct blob_store *store = blob->store;
    assert(blob->holders > 0);
    if (--blob->holders > 0) {
        return;
    }
    idle_append(blob);
    if (store->stopping) {
        let_go_oldest(store);
    } else if (!uv_is_active((uv_handle_t *)&store->timer)) {
        uv_timer_start(&store->timer, on_idle_timer, store->idle_ms, 0);
    }
}

void blob_store_start(struct blob_store *store, uv_loop_t *loop, const char *root, uint64_t idle_ms, size_t bytes_max)
{
    *store = (struct blob_store){ .loop = loop };
    store->root = strdup(root);
    assert(store->root != NULL);
    uv_timer_init(loop, &store->timer);
    uv_unref((uv_handle_t *)&store->timer);
    store->timer.data = store;
    blob_store_configure(store, idle_ms, bytes_max);
}

void blob_store_configure(struct blob_store *store, uint64_t idle_ms, size_t bytes_max)
{
    store->idle_ms = idle_ms;
    store->bytes_max = bytes_max;
    (void)make_room(store, 0);
    if (store->oldest_idle != NULL) {
        uv_timer_start(&store->timer, on_idle_timer, 0, 0);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct blob_store *store = handle->data;
    free(store->root);
    store->root = NULL;
    store->on_stopped(store);
}

static void check_stopped(struct blob_store *store)
{
    if (store->stopping && store->blobs == 0) {
        uv_close((uv_handle_t *)&store->timer, on_timer_closed);
    }
}

void blob_store_stop(struct blob_store *store, void (*on_stopped)(struct blob_store *store))
{
    assert(!store->stopping);
    store->on_stopped = on_stopped;
    while (store->oldest_idle != NULL) {
        let_go_oldest(store);
    }
    store->stopping = true;
    check_stopped(store);
}
