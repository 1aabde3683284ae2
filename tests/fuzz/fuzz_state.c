/* Any bytes as a file that the server keeps or is given: it is taken as it would be written again, or refused in words.
 *
 * Input: `t` tokens, `u` the users of --device-passwords, `a` the audit log, and the file; or `d` and changes to a
 * digest cache of our own, whose digest is then made right: two bytes of a place, one to be written there.
 */
#include "repo/digest_cache.h"
#include "server/audit_file.h"
#include "server/device_users.h"
#include "server/token_file.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64], again_path[72]; /* in memory: what is written is synced, too */

static void remove_folder(void)
{
    unlink(path);
    unlink(again_path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
}

static void make_folder(void)
{
    static char folder[] = "/dev/shm/updraft-fuzz-XXXXXX";
    if (path[0] == '\0') {
        const char *made = mkdtemp(folder);
        assert(made != NULL);
        snprintf(path, sizeof path, "%s/file", made);
        snprintf(again_path, sizeof again_path, "%s.again", path);
        atexit(remove_folder);
    }
}

static void write_file(const void *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert(file != NULL);
    size_t written = fwrite(bytes, 1, n, file);
    int failed = fclose(file);
    assert(written == n && failed == 0);
    (void)written;
    (void)failed;
}

static void check_refusal(const char *message)
{
    assert(strstr(message, path) != NULL);
    for (; *message != '\0'; message++) {
        assert(*message >= 0x20 && *message <= 0x7e);
    }
}

static void try_tokens(void)
{
    static struct token_list list, again;
    char message[400] = "";
    bool replaced;
    memset(&list, 0, sizeof list);
    memset(&again, 0, sizeof again);
    if (token_file_read(path, &list, message, sizeof message) != STATUS_OK) {
        check_refusal(message);
        return;
    }
    enum status status = token_file_write(&list, again_path, &replaced);
    assert(status == STATUS_OK && replaced);
    status = token_file_read(again_path, &again, message, sizeof message);
    assert(status == STATUS_OK && again.count == list.count);
    (void)status;
    for (size_t i = 0; i < list.count; i++) {
        const struct token *one = &list.tokens[i], *other = &again.tokens[i];
        assert(token_name_is_good(slice_of(one->name)) && token_list_find(&list, slice_of(one->name)) == i);
        assert(strcmp(one->name, other->name) == 0 && memcmp(one->hash, other->hash, sizeof one->hash) == 0);
        assert(one->role == other->role && !other->role_unsaid && one->created_s == other->created_s);
        assert(one->expires_s == other->expires_s && one->used_s == other->used_s);
    }
}

static void try_users(const uint8_t *data, size_t size)
{
    char message[400] = "";
    struct device_users *users = NULL, *again = NULL;
    if (device_users_load(path, NULL, &users, message, sizeof message) != STATUS_OK) {
        check_refusal(message);
        return;
    }
    size_t count = device_users_count(users), found = 0;
    assert(count > 0 && device_users_rounds_max(users) >= PASSWORD_ROUNDS_MIN);
    for (struct slice rest = { (const char *)data, size }; rest.len > 0;) { /* whose line it is, is found by its name */
        const char *end = memchr(rest.at, '\n', rest.len);
        size_t n = end != NULL ? (size_t)(end - rest.at) : rest.len;
        struct slice name = slice_trim((struct slice){ rest.at, n });
        const char *colon = name.len > 0 ? memchr(name.at, ':', name.len) : NULL;
        name.len = colon != NULL ? (size_t)(colon - name.at) : 0;
        const struct device_user *user = device_users_find(users, name);
        found += user != NULL;
        assert(user == NULL || user->types != NULL || device_users_cover(users, slice_of("any")));
        assert(user == NULL || user->types != NULL || device_user_is_for(user, slice_of("any")));
        n += end != NULL;
        rest = (struct slice){ rest.at + n, rest.len - n };
    }
    assert(found == count);
    enum status status = device_users_load(path, users, &again, message, sizeof message);
    assert(status == STATUS_OK && device_users_count(again) == count);
    (void)status;
    device_users_free(users);
    device_users_free(again);
}

static json_t *read_page(struct audit_file *file, const char *since, size_t offset, size_t limit)
{
    json_t *found = audit_file_read(file, &(struct audit_page){ .since = since, .offset = offset, .limit = limit });
    const json_t *acts = json_object_get(found, "acts");
    assert(json_is_array(acts) && json_array_size(acts) <= limit && json_is_boolean(json_object_get(found, "more")));
    return found;
}

static void try_audit(void)
{
    static const char line[] = "{\"time\":\"2026-11-21T07:00:00.000Z\",\"act\":\"ours\"}\n";
    char message[400] = "";
    struct audit_file file;
    size_t written, i;
    const json_t *act;
    enum status status = audit_file_open(&file, path, message, sizeof message);
    assert(status == STATUS_OK);
    status = audit_file_append(&file, line, sizeof line - 1, &written);
    assert(status == STATUS_OK && written == sizeof line - 1);
    (void)status;
    json_t *all = read_page(&file, "", 0, 1000), *rest = read_page(&file, "", 1, 999);
    const json_t *acts = json_object_get(all, "acts");
    assert(strcmp(json_string_value(json_object_get(json_array_get(acts, 0), "act")), "ours") == 0);
    json_array_foreach(acts, i, act)
    {
        assert(json_is_string(json_object_get(act, "time")) && json_is_string(json_object_get(act, "act")));
        assert(i == 0 || json_equal(act, json_array_get(json_object_get(rest, "acts"), i - 1)));
    }
    json_decref(all);
    json_decref(rest);
    json_decref(read_page(&file, "2026-11-21", 0, 2));
    audit_file_close(&file);
}

/* --- the digest cache --------------------------------------------------------------------------------------------- */

static const struct file_identity identity = { .device = 7, .inode = 1, .size = 1000, .mtime_ns = 5, .ctime_ns = 6 };

static void put(struct digest_cache *cache, const char *name, bool accepted)
{
    struct digest_finding finding;
    memset(&finding, 0, sizeof finding);
    finding.use = IMAGE_USE_SKETCH;
    finding.accepted = accepted;
    if (accepted) {
        finding.facts.kind = IMAGE_ESP32;
        finding.facts.chip = CHIP_ESP32_C3;
        finding.facts.has_app = true;
        finding.facts.flash_mode = 2;
        finding.facts.file_bytes = identity.size;
        memcpy(finding.facts.app_version, "1.0", 3);
    } else {
        finding.verdict.fault = IMAGE_FAULT_TRUNCATED;
        memcpy(finding.verdict.detail, "cut", 3);
        memcpy(finding.verdict.remedy, "copy it", 7);
    }
    enum status status = digest_cache_put(cache, slice_of(name), &identity, &finding);
    assert(status == STATUS_OK);
    (void)status;
}

static void save_and_read(struct digest_cache *cache, uint8_t *bytes, size_t size, size_t *n)
{
    enum status status = digest_cache_save(cache, path);
    FILE *file = fopen(path, "rb");
    assert(status == STATUS_OK && file != NULL);
    (void)status;
    *n = fread(bytes, 1, size, file);
    assert(*n > 32 && *n < size);
    fclose(file);
}

static void check_finding(const struct digest_finding *finding)
{
    assert(finding->use <= IMAGE_USE_SLOT && chip_text(finding->facts.chip)[0] != '\0');
    if (finding->accepted) {
        assert(finding->facts.kind <= IMAGE_SPIFFS && finding->facts.slot <= 2);
        assert(strlen(finding->facts.app_version) < sizeof finding->facts.app_version);
        assert(strlen(finding->facts.app_project) < sizeof finding->facts.app_project);
        assert(strlen(finding->facts.app_idf) < sizeof finding->facts.app_idf);
    } else {
        assert(image_fault_word(finding->verdict.fault)[0] != '\0');
        assert(strlen(finding->verdict.detail) < sizeof finding->verdict.detail);
        assert(strlen(finding->verdict.remedy) < sizeof finding->verdict.remedy);
    }
}

static void try_digests(const uint8_t *data, size_t size)
{
    static uint8_t ours[4096], second[4096];
    static size_t n;
    struct digest_cache *cache = digest_cache_new();
    assert(cache != NULL);
    if (n == 0) {
        put(cache, "a.bin", true);
        put(cache, "b.bin", false);
        save_and_read(cache, ours, sizeof ours, &n);
    }
    uint8_t bytes[sizeof ours];
    memcpy(bytes, ours, n);
    for (; size >= 3; data += 3, size -= 3) {
        bytes[(size_t)(data[0] | data[1] << 8) % (n - 32)] = data[2];
    }
    EVP_Digest(bytes, n - 32, bytes + n - 32, NULL, EVP_sha256(), NULL);
    write_file(bytes, n - (size > 0 ? data[0] : 0)); /* a byte left over: it is cut */
    if (digest_cache_load(cache, path) == STATUS_OK) {
        for (unsigned use = IMAGE_USE_SKETCH; use <= IMAGE_USE_SLOT; use++) {
            for (const char *name = "a.bin"; name != NULL; name = name[0] == 'a' ? "b.bin" : NULL) {
                const struct digest_finding *finding =
                    digest_cache_find(cache, slice_of(name), &identity, (enum image_use)use);
                if (finding != NULL) {
                    check_finding(finding);
                }
            }
        }
        size_t again, count = digest_cache_count(cache);
        save_and_read(cache, second, sizeof second, &again);
        enum status status = digest_cache_load(cache, path);
        assert(status == STATUS_OK && digest_cache_count(cache) == count);
        (void)status;
    } else {
        assert(digest_cache_count(cache) == 0);
    }
    digest_cache_free(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    make_folder();
    write_file(data + 1, size - 1);
    switch (data[0]) {
    case 't':
        try_tokens();
        break;
    case 'u':
        try_users(data + 1, size - 1);
        break;
    case 'a':
        try_audit();
        break;
    case 'd':
        try_digests(data + 1, size - 1);
        break;
    default:
        break;
    }
    return 0;
}
