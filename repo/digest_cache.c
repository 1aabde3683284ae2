/* The cache in memory, and its file: a header, records of fixed size with a path each, and the SHA-256 of all
 * of it.
 *
 * What makes it hard is to read it back. The checksum is no seal, so even a file whose checksum holds is
 * looked at field by field before its bytes become a bool or a text: a broken file costs a rescan, not the
 * server.
 */
#include "repo/digest_cache.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1 /* an entry without memory is left out, and seen by its hh.tbl */
#include <uthash.h>

/* To be raised whenever this file's form changes; image_check's own edition says what its findings are worth. */
#define FORMAT_NUMBER 2

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define DIGEST_BYTES    32

static const char magic[8] = "UPDRAFTc";

/* Both in the byte order and layout of this build; the sizes tell another build apart. */
struct file_header {
    char magic[8];
    uint32_t format;
    uint32_t record_bytes;
    uint32_t facts_bytes;
    uint32_t verdict_bytes;
    uint64_t count;
};

struct file_record {
    struct file_identity identity;
    uint64_t path_bytes;
    unsigned char finding[sizeof(struct digest_finding)]; /* as bytes: not yet believed */
};

struct entry {
    UT_hash_handle hh;
    struct file_identity identity;
    struct digest_finding finding;
    bool touched;
    size_t path_len;
    char path[];
};

struct digest_cache {
    struct entry *entries;
    size_t bytes; /* of all records, as they will be written */
    bool changed;
};

static size_t record_size(size_t path_len)
{
    return sizeof(struct file_record) + path_len;
}

struct digest_cache *digest_cache_new(void)
{
    return calloc(1, sizeof(struct digest_cache));
}

static void drop(struct digest_cache *cache, struct entry *entry)
{
    HASH_DEL(cache->entries, entry);
    cache->bytes -= record_size(entry->path_len);
    cache->changed = true;
    free(entry);
}

static void clear(struct digest_cache *cache)
{
    struct entry *entry;
    struct entry *next;
    HASH_ITER(hh, cache->entries, entry, next)
    {
        drop(cache, entry);
    }
    cache->changed = false;
}

void digest_cache_free(struct digest_cache *cache)
{
    if (cache != NULL) {
        clear(cache);
        free(cache);
    }
}

size_t digest_cache_count(const struct digest_cache *cache)
{
    return HASH_COUNT(cache->entries);
}

bool digest_cache_has_changed(const struct digest_cache *cache)
{
    return cache->changed;
}

static struct entry *find(struct digest_cache *cache, struct slice path)
{
    struct entry *entry = NULL;
    HASH_FIND(hh, cache->entries, path.at, path.len, entry);
    return entry;
}

const struct digest_finding *digest_cache_find(struct digest_cache *cache, struct slice path,
                                               const struct file_identity *identity, enum image_use use)
{
    struct entry *entry = find(cache, path);
    if (entry == NULL || entry->finding.use != use || !file_identity_equal(&entry->identity, identity)) {
        return NULL;
    }
    entry->touched = true;
    return &entry->finding;
}

/* Copies what counts and zeroes the rest, so that no byte of the file depends on what memory held before. */
static void copy_finding(const struct digest_finding *from, struct digest_finding *to)
{
    memset(to, 0, sizeof *to);
    to->use = from->use;
    to->accepted = from->accepted;
    to->seal = from->seal;
    if (from->accepted) {
        memcpy(&to->facts, &from->facts, sizeof to->facts);
    } else {
        memcpy(&to->verdict, &from->verdict, sizeof to->verdict);
    }
}

/* Adds an entry for a path that has none. */
static enum status add(struct digest_cache *cache, struct slice path, const struct file_identity *identity,
                       const struct digest_finding *finding)
{
    if (path.len == 0 || path.len > DIGEST_CACHE_PATH_MAX) {
        return STATUS_TOO_LONG;
    }
    size_t overhead = sizeof(struct file_header) + DIGEST_BYTES;
    if (digest_cache_count(cache) >= DIGEST_CACHE_ENTRIES_MAX ||
        cache->bytes + record_size(path.len) + overhead > DIGEST_CACHE_BYTES_MAX) {
        return STATUS_LIMIT;
    }
    struct entry *entry = calloc(1, sizeof *entry + path.len);
    if (entry == NULL) {
        return STATUS_NO_MEMORY;
    }
    entry->identity = *identity;
    entry->touched = true;
    entry->path_len = path.len;
    copy_finding(finding, &entry->finding);
    memcpy(entry->path, path.at, path.len);
    HASH_ADD_KEYPTR(hh, cache->entries, entry->path, entry->path_len, entry);
    if (entry->hh.tbl == NULL) {
        free(entry);
        return STATUS_NO_MEMORY;
    }
    cache->bytes += record_size(path.len);
    cache->changed = true;
    return STATUS_OK;
}

enum status digest_cache_put(struct digest_cache *cache, struct slice path, const struct file_identity *identity,
                             const struct digest_finding *finding)
{
    struct digest_finding copy = *finding; /* it may be borrowed from the entry that goes */
    struct entry *old = find(cache, path);
    if (old != NULL) {
        drop(cache, old);
    }
    return add(cache, path, identity, &copy);
}

size_t digest_cache_forget_untouched(struct digest_cache *cache)
{
    size_t forgotten = 0;
    struct entry *entry;
    struct entry *next;
    HASH_ITER(hh, cache->entries, entry, next)
    {
        if (!entry->touched) {
            drop(cache, entry);
            forgotten++;
        } else {
            entry->touched = false;
        }
    }
    return forgotten;
}

/* ---- the file ---- */

/* A file under way, and the digest of what has passed. The first failure stays, and nothing passes after it.
 */
struct stream {
    FILE *file;
    EVP_MD_CTX *digest;
    enum status status;
};

/* Takes the descriptor over. */
static void stream_open(struct stream *stream, int descriptor, const char *mode)
{
    stream->status = STATUS_OK;
    stream->digest = EVP_MD_CTX_new();
    stream->file = fdopen(descriptor, mode);
    if (stream->file == NULL) {
        close(descriptor);
    }
    if (stream->file == NULL || stream->digest == NULL || EVP_DigestInit_ex(stream->digest, EVP_sha256(), NULL) != 1) {
        stream->status = STATUS_NO_MEMORY;
    }
}

static void stream_fail(struct stream *stream, enum status status)
{
    if (stream->status == STATUS_OK) {
        stream->status = status;
    }
}

static enum status stream_close(struct stream *stream)
{
    EVP_MD_CTX_free(stream->digest);
    if (stream->file != NULL && fclose(stream->file) != 0) {
        stream_fail(stream, status_from_errno(errno));
    }
    return stream->status;
}

static void stream_digest(struct stream *stream, const void *bytes, size_t n)
{
    if (stream->status == STATUS_OK && EVP_DigestUpdate(stream->digest, bytes, n) != 1) {
        stream->status = STATUS_NO_MEMORY;
    }
}

static void stream_write(struct stream *stream, const void *bytes, size_t n)
{
    stream_digest(stream, bytes, n);
    if (stream->status == STATUS_OK && fwrite(bytes, 1, n, stream->file) != n) {
        stream->status = status_from_errno(errno);
    }
}

/* False at the end of the file too, which is INVALID as every length is known beforehand. */
static bool stream_read(struct stream *stream, void *bytes, size_t n)
{
    if (stream->status == STATUS_OK && fread(bytes, 1, n, stream->file) != n) {
        stream->status = ferror(stream->file) ? STATUS_IO : STATUS_INVALID;
    }
    stream_digest(stream, bytes, n);
    return stream->status == STATUS_OK;
}

/* Ends the digest. All that was read or written before counts. */
static void stream_digest_final(struct stream *stream, unsigned char digest[DIGEST_BYTES])
{
    if (stream->status == STATUS_OK && EVP_DigestFinal_ex(stream->digest, digest, NULL) != 1) {
        stream->status = STATUS_NO_MEMORY;
    }
}

static struct file_header header_of(uint64_t count)
{
    struct file_header header;
    memset(&header, 0, sizeof header);
    memcpy(header.magic, magic, sizeof magic);
    header.format = FORMAT_NUMBER << 16 | IMAGE_CHECK_EDITION;
    header.record_bytes = sizeof(struct file_record);
    header.facts_bytes = sizeof(struct image_facts);
    header.verdict_bytes = sizeof(struct image_verdict);
    header.count = count;
    return header;
}

static int by_path(const struct entry *a, const struct entry *b)
{
    int order = memcmp(a->path, b->path, a->path_len < b->path_len ? a->path_len : b->path_len);
    return order != 0 ? order : (a->path_len > b->path_len) - (a->path_len < b->path_len);
}

static void write_all(struct digest_cache *cache, struct stream *stream)
{
    struct file_header header = header_of(digest_cache_count(cache));
    stream_write(stream, &header, sizeof header);
    HASH_SORT(cache->entries, by_path); /* whatever order the folders were read in */
    for (struct entry *entry = cache->entries; entry != NULL; entry = entry->hh.next) {
        struct file_record record;
        memset(&record, 0, sizeof record);
        record.identity = entry->identity;
        record.path_bytes = entry->path_len;
        memcpy(record.finding, &entry->finding, sizeof record.finding);
        stream_write(stream, &record, sizeof record);
        stream_write(stream, entry->path, entry->path_len);
    }
    unsigned char digest[DIGEST_BYTES];
    stream_digest_final(stream, digest);
    if (stream->status == STATUS_OK && fwrite(digest, 1, sizeof digest, stream->file) != sizeof digest) {
        stream->status = status_from_errno(errno);
    }
    if (stream->status == STATUS_OK && (fflush(stream->file) != 0 || fsync(fileno(stream->file)) != 0)) {
        stream->status = status_from_errno(errno);
    }
}

static enum status write_and_rename(struct digest_cache *cache, const char *temporary, const char *file)
{
    (void)unlink(temporary); /* left by a crash; a link in its place must not be followed */
    int descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (descriptor < 0) {
        return status_from_errno(errno);
    }
    struct stream stream;
    stream_open(&stream, descriptor, "wb");
    if (stream.status == STATUS_OK) {
        write_all(cache, &stream);
    }
    enum status status = stream_close(&stream);
    if (status == STATUS_OK && rename(temporary, file) != 0) {
        status = status_from_errno(errno);
    }
    if (status != STATUS_OK) {
        (void)unlink(temporary);
        return status;
    }
    cache->changed = false;
    return file_sync_folder(file);
}

enum status digest_cache_save(struct digest_cache *cache, const char *file)
{
    char *temporary;
    if (asprintf(&temporary, "%s.tmp", file) < 0) {
        return STATUS_NO_MEMORY;
    }
    enum status status = write_and_rename(cache, temporary, file);
    free(temporary);
    return status;
}

#define AT(field)   offsetof(struct digest_finding, field)
#define SIZE(field) sizeof(((struct digest_finding *)0)->field)

struct field {
    size_t at, size;
};

static const struct field accepted_texts[] = {
    { AT(facts.app_version), SIZE(facts.app_version) },
    { AT(facts.app_project), SIZE(facts.app_project) },
    { AT(facts.app_idf), SIZE(facts.app_idf) },
};
static const struct field rejected_texts[] = {
    { AT(verdict.detail), SIZE(verdict.detail) },
    { AT(verdict.remedy), SIZE(verdict.remedy) },
};
static const size_t accepted_flags[] = { AT(facts.gzip), AT(facts.has_run_sha256), AT(facts.has_app) };

static bool texts_end(const unsigned char *finding, const struct field *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (memchr(finding + texts[i].at, '\0', texts[i].size) == NULL) {
            return false;
        }
    }
    return true;
}

/* Bytes that become a struct unlooked-at must hold what a struct of ours can hold: above all its flags and
 * texts. */
static bool is_finding(const unsigned char *bytes, uint64_t file_bytes, struct digest_finding *finding)
{
    unsigned accepted = bytes[AT(accepted)];
    if (accepted > 1) {
        return false;
    }
    for (size_t i = 0; accepted == 1 && i < COUNT_OF(accepted_flags); i++) {
        if (bytes[accepted_flags[i]] > 1) {
            return false;
        }
    }
    if (accepted == 1 ? !texts_end(bytes, accepted_texts, COUNT_OF(accepted_texts))
                      : !texts_end(bytes, rejected_texts, COUNT_OF(rejected_texts))) {
        return false;
    }
    memcpy(finding, bytes, sizeof *finding);
    if ((unsigned)finding->use > IMAGE_USE_SLOT) {
        return false;
    }
    if (!finding->accepted) {
        return (unsigned)finding->verdict.fault <= IMAGE_FAULT_UNKNOWN_KEY;
    }
    const struct image_facts *facts = &finding->facts;
    return (unsigned)facts->kind <= IMAGE_SPIFFS && facts->slot <= 2 && facts->file_bytes == file_bytes &&
           (facts->flash_mode < IMAGE_FLASH_MODES || facts->flash_mode == 0xff);
}

static bool read_record(struct digest_cache *cache, struct stream *stream)
{
    struct file_record record;
    struct digest_finding finding;
    char bytes[DIGEST_CACHE_PATH_MAX];
    if (!stream_read(stream, &record, sizeof record)) {
        return false;
    }
    if (record.path_bytes == 0 || record.path_bytes > sizeof bytes ||
        !is_finding(record.finding, record.identity.size, &finding)) {
        stream_fail(stream, STATUS_INVALID);
        return false;
    }
    struct slice path = { bytes, (size_t)record.path_bytes };
    if (!stream_read(stream, bytes, path.len)) {
        return false;
    }
    if (find(cache, path) != NULL) {
        stream_fail(stream, STATUS_INVALID);
        return false;
    }
    stream_fail(stream, add(cache, path, &record.identity, &finding));
    return stream->status == STATUS_OK;
}

static void read_all(struct digest_cache *cache, struct stream *stream)
{
    struct file_header header;
    if (!stream_read(stream, &header, sizeof header)) {
        return;
    }
    struct file_header expected = header_of(header.count);
    if (memcmp(&header, &expected, sizeof header) != 0 || header.count > DIGEST_CACHE_ENTRIES_MAX) {
        stream_fail(stream, STATUS_INVALID);
        return;
    }
    for (uint64_t i = 0; i < header.count; i++) {
        if (!read_record(cache, stream)) {
            return;
        }
    }
    unsigned char computed[DIGEST_BYTES];
    unsigned char found[DIGEST_BYTES];
    stream_digest_final(stream, computed);
    if (stream->status == STATUS_OK && (fread(found, 1, sizeof found, stream->file) != sizeof found ||
                                        fgetc(stream->file) != EOF || memcmp(found, computed, sizeof found) != 0)) {
        stream->status = STATUS_INVALID;
    }
}

static enum status open_for_reading(const char *file, int *descriptor)
{
    /* Not blocking: a named pipe in its place would be waited for. */
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return status_from_errno(errno);
    }
    struct stat stat;
    if (fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode) || stat.st_size < 0 ||
        (uint64_t)stat.st_size > DIGEST_CACHE_BYTES_MAX) {
        close(fd);
        return STATUS_INVALID;
    }
    *descriptor = fd;
    return STATUS_OK;
}

enum status digest_cache_load(struct digest_cache *cache, const char *file)
{
    clear(cache);
    int descriptor = -1;
    enum status status = open_for_reading(file, &descriptor);
    if (status != STATUS_OK) {
        return status;
    }
    struct stream stream;
    stream_open(&stream, descriptor, "rb");
    if (stream.status == STATUS_OK) {
        read_all(cache, &stream);
    }
    status = stream_close(&stream);
    if (status != STATUS_OK) {
        clear(cache);
        return status;
    }
    for (struct entry *entry = cache->entries; entry != NULL; entry = entry->hh.next) {
        entry->touched = false;
    }
    cache->changed = false;
    return STATUS_OK;
}
