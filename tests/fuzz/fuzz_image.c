/* Any bytes as an image: the first byte chooses the use, the rest is the file.
 *
 * A check either accepts with facts that agree with the bytes, or refuses with texts that can go into a log
 * line.
 */
#include "proto/image.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
    assert(text[0] != '\0' && memchr(text, '\0', size) != NULL);
    for (; *text != '\0'; text++) {
        assert(*text >= 0x20 && *text <= 0x7e);
    }
}

static void check_facts(const struct image_facts *facts, enum image_use use, size_t size)
{
    bool is_fs = facts->kind == IMAGE_LITTLEFS || facts->kind == IMAGE_SPIFFS;
    enum image_use expected = is_fs                               ? IMAGE_USE_FS
                              : facts->kind == IMAGE_ESP8266_SLOT ? IMAGE_USE_SLOT
                                                                  : IMAGE_USE_SKETCH;
    assert(use == expected);
    assert(facts->file_bytes == size && facts->image_bytes > 0 && facts->image_bytes <= IMAGE_BYTES_MAX);
    assert(facts->gzip || facts->image_bytes <= size);
    assert(is_fs == (facts->block_bytes != 0) && is_fs == (facts->segments == 0));
    assert(facts->segments <= 17 && facts->slot <= 2);
    assert(is_fs == (facts->chip == CHIP_UNKNOWN));
    assert((facts->kind == IMAGE_ESP32) == chip_is_esp32_family(facts->chip));
    assert(facts->has_run_sha256 == (facts->kind == IMAGE_ESP32));
    assert(facts->flash_mode <= 5 || facts->flash_mode == 0xff);
    assert(facts->kind != IMAGE_ESP8266 || facts->flash_mode < IMAGE_FLASH_MODES);
    assert(facts->app_version[32] == '\0' && facts->app_project[32] == '\0' && facts->app_idf[32] == '\0');
    assert(facts->has_app || facts->app_version[0] == '\0');
    bool one_md5 = memcmp(facts->run_md5[0], facts->run_md5[1], sizeof facts->run_md5[0]) == 0;
    assert(one_md5 == (facts->kind != IMAGE_ESP8266));
    if (!facts->gzip && facts->image_bytes == size) {
        unsigned mode = facts->kind == IMAGE_ESP8266 ? facts->flash_mode : 0;
        assert(memcmp(facts->md5, facts->run_md5[mode], sizeof facts->md5) == 0);
    }
}

static void check_same(const struct image_facts *a, const struct image_facts *b)
{
    assert(a->kind == b->kind && a->chip == b->chip && a->image_bytes == b->image_bytes);
    assert(a->segments == b->segments && a->slot == b->slot && a->flash_bytes == b->flash_bytes);
    assert(memcmp(a->md5, b->md5, sizeof a->md5) == 0 && memcmp(a->sha256, b->sha256, sizeof a->sha256) == 0);
    assert(memcmp(a->run_md5, b->run_md5, sizeof a->run_md5) == 0);
    assert(memcmp(a->run_sha256, b->run_sha256, sizeof a->run_sha256) == 0);
    assert(memcmp(a->app_version, b->app_version, sizeof a->app_version) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    enum image_use use = (enum image_use)(data[0] % 3);
    size_t n = size - 1;
    uint8_t *file = malloc(n > 0 ? n : 1); /* to the byte, so that a look beyond is seen */
    assert(file != NULL);
    memcpy(file, data + 1, n);

    struct image_facts facts;
    struct image_facts again;
    struct image_verdict verdict;
    struct image_verdict same;
    memset(&facts, 0x5a, sizeof facts);
    memset(&again, 0x5a, sizeof again);
    memset(&verdict, 0xa5, sizeof verdict);
    memset(&same, 0xa5, sizeof same);
    bool ok = image_check(file, n, use, &facts, &verdict);
    assert(ok == image_check(file, n, use, &again, &same));
    check_same(&facts, &again);
    assert(verdict.fault == same.fault && memcmp(verdict.detail, same.detail, sizeof same.detail) == 0);
    if (ok) {
        check_facts(&facts, use, n);
        assert((unsigned char)verdict.detail[0] == 0xa5); /* untouched */
    } else {
        assert(verdict.fault != IMAGE_FAULT_NONE);
        check_text(verdict.detail, sizeof verdict.detail);
        check_text(verdict.remedy, sizeof verdict.remedy);
    }
    free(file);
    return 0;
}
