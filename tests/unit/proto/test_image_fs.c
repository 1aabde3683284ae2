/* File system images: LittleFS by its superblock, SPIFFS by the word in each of its blocks. */
#include "tests/unit/proto/image_fixture.h"

static struct sample littlefs(void)
{
    return sample_make((struct image_make){ .kind = IMAGE_MAKE_LITTLEFS, .bytes = 16384 });
}

static struct sample spiffs(enum chip chip, uint32_t block_bytes, size_t blocks)
{
    return sample_make((struct image_make){
        .kind = IMAGE_MAKE_SPIFFS, .chip = chip, .block_bytes = block_bytes, .bytes = blocks * block_bytes });
}

static void test_littlefs_facts(void **state)
{
    (void)state;
    static const uint32_t blocks[] = { 4096, 8192 };
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        struct sample sample =
            sample_make((struct image_make){ .kind = IMAGE_MAKE_LITTLEFS, .block_bytes = blocks[i], .bytes = 100000 });
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_FS);
        assert_int_equal(facts.kind, IMAGE_LITTLEFS);
        assert_int_equal(facts.chip, CHIP_UNKNOWN); /* nothing in it says */
        assert_int_equal(facts.block_bytes, blocks[i]);
        assert_int_equal(facts.image_bytes, sample.n);
        assert_int_equal(facts.flash_mode, 0xff);
        assert_int_equal(facts.flash_bytes, 0);
        expect_digest("MD5", sample.at, sample.n, facts.md5);
        assert_memory_equal(facts.run_md5[2], facts.md5, 16);
        free(sample.at);
    }
}

/* The superblock alternates between two blocks, so a good image may have one of them erased. */
static void test_littlefs_with_one_superblock(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct sample sample = littlefs();
        memset(sample.at + i * 4096, 0xff, 4096);
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_FS);
        assert_int_equal(facts.block_bytes, 4096);
        free(sample.at);
    }
}

/* A file system may begin with any byte; those of other formats must not mislead. */
static void test_littlefs_that_begins_like_something_else(void **state)
{
    (void)state;
    static const uint8_t firsts[][2] = { { 0xe9, 1 }, { 0xea, 4 }, { 0x1f, 0x8b }, { '<', '!' } };
    for (size_t i = 0; i < COUNT_OF(firsts); i++) {
        struct sample sample = littlefs();
        memcpy(sample.at, firsts[i], 2);
        expect_fault(sample, IMAGE_USE_FS, IMAGE_FAULT_FILE_SYSTEM, "the CRC of its bytes"); /* revision changed */
    }
}

static void test_littlefs_faults(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value;
        enum image_fault fault;
        const char *words;
    } faults[] = {
        { 20, 0x00010007, IMAGE_FAULT_FILE_SYSTEM, "LittleFS version 1.7" },
        { 24, 0, IMAGE_FAULT_FILE_SYSTEM, "claims 4 blocks of 0 bytes" },
        { 24, 4097, IMAGE_FAULT_FILE_SYSTEM, "claims 4 blocks of 4097 bytes" },
        { 28, 0xffffffff, IMAGE_FAULT_FILE_SYSTEM, "claims 4294967295 blocks" },
        { 28, 1, IMAGE_FAULT_FILE_SYSTEM, "claims 1 blocks" },
        { 28, 5, IMAGE_FAULT_TRUNCATED, "LittleFS of 20480 bytes, the file ends at 16384" },
        { 28, 3, IMAGE_FAULT_FILE_SYSTEM, "LittleFS of 12288 bytes in a file of 16384" },
        { 32, 32, IMAGE_FAULT_FILE_SYSTEM, "has not the CRC" },
    };
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        struct sample sample = littlefs();
        sample_set_u32(&sample, faults[i].at, faults[i].value);
        expect_fault(sample, IMAGE_USE_FS, faults[i].fault, faults[i].words);
    }
}

static void test_littlefs_cut_or_flipped(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_LITTLEFS, .block_bytes = 512 });
    expect_no_cut_passes(sample_of(sample.at, sample.n), IMAGE_USE_FS);
    free(sample.at);
    /* The magic itself may break: then the other superblock speaks. The rest, up to the CRC, is covered. */
    sample = littlefs();
    for (size_t bit = 128; bit < 416; bit++) {
        sample.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(fault_of(&sample, sample.n, IMAGE_USE_FS), IMAGE_FAULT_NONE);
        sample.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(sample.at);
}

static void test_spiffs_facts(void **state)
{
    (void)state;
    static const struct {
        enum chip chip;
        uint32_t block_bytes;
    } forms[] = { { CHIP_ESP8266, 4096 }, { CHIP_ESP8266, 8192 }, { CHIP_ESP32, 4096 } };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        for (size_t blocks = 3; blocks < 40; blocks += 9) {
            struct sample sample = spiffs(forms[i].chip, forms[i].block_bytes, blocks);
            struct image_facts facts = expect_ok(&sample, IMAGE_USE_FS);
            assert_int_equal(facts.kind, IMAGE_SPIFFS);
            assert_int_equal(facts.block_bytes, forms[i].block_bytes);
            assert_int_equal(facts.image_bytes, sample.n);
            free(sample.at);
        }
    }
}

static void test_spiffs_with_half_a_block_left(void **state)
{
    (void)state;
    struct sample sample = spiffs(CHIP_ESP8266, 8192, 8); /* partitions of 0xfb000 bytes are real */
    static const uint8_t half[4096] = { 0 };
    sample_append(&sample, half, sizeof half);
    assert_int_equal(expect_ok(&sample, IMAGE_USE_FS).block_bytes, 8192);
    free(sample.at);
}

static void test_spiffs_damaged_block_is_named(void **state)
{
    (void)state;
    struct sample early = spiffs(CHIP_ESP8266, 4096, 20);
    early.at[8192 + 252] ^= 1;
    expect_fault(early, IMAGE_USE_FS, IMAGE_FAULT_FILE_SYSTEM, "block 2 of 20 has magic 0x0428 where 0x0429 belongs");
    struct sample late = spiffs(CHIP_ESP32, 4096, 20);
    late.at[61440 + 253] ^= 1;
    expect_fault(late, IMAGE_USE_FS, IMAGE_FAULT_FILE_SYSTEM, "block 15 of 20");
}

static void test_spiffs_cut(void **state)
{
    (void)state;
    struct sample counted = spiffs(CHIP_ESP32, 4096, 20);
    counted.n -= 4096; /* a whole block: the count tells */
    expect_fault(counted, IMAGE_USE_FS, IMAGE_FAULT_TRUNCATED, "SPIFFS of 20 blocks, 81920 bytes, in a file of 77824");
    struct sample longer = spiffs(CHIP_ESP32, 4096, 3);
    static const uint8_t block[4096] = { 0 };
    sample_append(&longer, block, sizeof block);
    expect_fault(longer, IMAGE_USE_FS, IMAGE_FAULT_FILE_SYSTEM, "SPIFFS of 3 blocks");
    struct sample plain = spiffs(CHIP_ESP8266, 4096, 20);
    plain.n -= 100;
    expect_fault(plain, IMAGE_USE_FS, IMAGE_FAULT_TRUNCATED, "within a flash sector");
}

static void test_no_cut_spiffs_with_a_count_passes(void **state)
{
    (void)state;
    expect_no_cut_passes(spiffs(CHIP_ESP32, 4096, 3), IMAGE_USE_FS);
}

/* --- the trailer that devices with a key ask for ------------------------------------------------------------------ */

/* A signature of 256 bytes, all zero, and its length. */
static void append_trailer(struct sample *sample, uint32_t length)
{
    uint8_t trailer[260] = { 0 };
    for (size_t i = 0; i < 4; i++) {
        trailer[256 + i] = (uint8_t)(length >> 8 * i);
    }
    sample_append(sample, trailer, sizeof trailer);
}

static void test_trailer(void **state)
{
    (void)state;
    struct sample samples[] = { littlefs(), spiffs(CHIP_ESP8266, 4096, 20), spiffs(CHIP_ESP8266, 8192, 5),
                                spiffs(CHIP_ESP32, 4096, 20) };
    for (size_t i = 0; i < COUNT_OF(samples); i++) {
        size_t n = samples[i].n;
        append_trailer(&samples[i], 256);
        struct image_facts facts = expect_ok(&samples[i], IMAGE_USE_FS);
        assert_int_equal(facts.signature_bytes, 260);
        assert_int_equal(facts.image_bytes, n);
        assert_int_equal(facts.file_bytes, n + 260);
        free(samples[i].at);
    }
    struct sample lies = spiffs(CHIP_ESP8266, 4096, 20);
    append_trailer(&lies, 255);
    expect_fault(lies, IMAGE_USE_FS, IMAGE_FAULT_TRUNCATED, "within a flash sector");
    struct sample huge = littlefs();
    append_trailer(&huge, 0xffffff00);
    assert_int_equal(expect_ok(&huge, IMAGE_USE_FS).signature_bytes, 0); /* a partition's rest */
    free(huge.at);
}

/* All that makes it a LittleFS lies where a signature would. */
static void test_trailer_that_is_all(void **state)
{
    (void)state;
    static const size_t sizes[] = { 260, 4096 + 260 };
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct sample sample = sample_of("", 0);
        uint8_t bytes[4096 + 260] = { 0 };
        size_t at = sizes[i] - 260;
        memcpy(bytes + at + 8, "littlefs", 8);
        bytes[at + 24 + 1] = 0x10; /* blocks of 4096 bytes */
        bytes[sizes[i] - 3] = 1;   /* 256 */
        sample_append(&sample, bytes, sizes[i]);
        expect_fault(sample, IMAGE_USE_FS, IMAGE_FAULT_FILE_SYSTEM, "LittleFS version 0.0");
    }
}

/* Only behind a trailer may the last block be missing, and no more than that. */
static void test_littlefs_cut_for_a_trailer(void **state)
{
    (void)state;
    struct sample cut = littlefs();
    cut.n -= 4096;
    expect_fault(sample_of(cut.at, cut.n), IMAGE_USE_FS, IMAGE_FAULT_TRUNCATED, "the file ends at 12288");
    append_trailer(&cut, 256);
    struct image_facts facts = expect_ok(&cut, IMAGE_USE_FS);
    assert_int_equal(facts.signature_bytes, 260);
    assert_int_equal(facts.image_bytes, 12288);
    free(cut.at);
    struct sample more = littlefs();
    more.n -= 8192;
    append_trailer(&more, 256);
    expect_fault(more, IMAGE_USE_FS, IMAGE_FAULT_TRUNCATED, "LittleFS of 16384 bytes");
}

static enum image_room room_of(const struct sample *sample, size_t *n)
{
    struct image_facts facts = expect_ok(sample, IMAGE_USE_FS);
    *n = 0;
    return image_fs_room(sample->at, &facts, n);
}

static void test_room_in_littlefs(void **state)
{
    (void)state;
    size_t n;
    struct sample sample = littlefs();
    assert_int_equal(room_of(&sample, &n), IMAGE_ROOM_NONE);
    memset(sample.at + 12288, 0xff, 4096); /* of one block nobody can say that it is free */
    assert_int_equal(room_of(&sample, &n), IMAGE_ROOM_NONE);
    free(sample.at);
    static const uint8_t fills[] = { 0xff, 0 };
    for (size_t i = 0; i < COUNT_OF(fills); i++) {
        sample = littlefs();
        memset(sample.at + 8192, fills[i], 8192);
        assert_int_equal(room_of(&sample, &n), IMAGE_ROOM);
        assert_int_equal(n, 12288);
        sample.at[16383] ^= 1;
        assert_int_equal(room_of(&sample, &n), IMAGE_ROOM_NONE);
        free(sample.at);
    }
    sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_LITTLEFS, .block_bytes = 8192, .bytes = 32768 });
    static const uint8_t half[4096] = { 0 };
    sample_append(&sample, half, sizeof half); /* the partition's rest, as of 0xfb000 bytes */
    assert_int_equal(room_of(&sample, &n), IMAGE_ROOM);
    assert_int_equal(n, 32768);
    free(sample.at);
}

static void test_room_in_spiffs(void **state)
{
    (void)state;
    size_t n;
    struct sample sample = spiffs(CHIP_ESP8266, 8192, 5), counted = spiffs(CHIP_ESP32, 4096, 20);
    uint8_t *last = sample.at + sample.n - 8192;
    assert_int_equal(room_of(&sample, &n), IMAGE_ROOM_NONE);
    memset(last + 256, 0xff, 8192 - 256);
    assert_int_equal(room_of(&sample, &n), IMAGE_ROOM);
    assert_int_equal(n, 4 * 8192);
    last[3] = 0x80; /* a page that is taken, though it looks erased */
    assert_int_equal(room_of(&sample, &n), IMAGE_ROOM_NONE);
    assert_int_equal(room_of(&counted, &n), IMAGE_ROOM_UNWANTED);
    free(sample.at);
    free(counted.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trailer),
        cmocka_unit_test(test_trailer_that_is_all),
        cmocka_unit_test(test_littlefs_cut_for_a_trailer),
        cmocka_unit_test(test_room_in_littlefs),
        cmocka_unit_test(test_room_in_spiffs),
        cmocka_unit_test(test_littlefs_facts),
        cmocka_unit_test(test_littlefs_with_one_superblock),
        cmocka_unit_test(test_littlefs_that_begins_like_something_else),
        cmocka_unit_test(test_littlefs_faults),
        cmocka_unit_test(test_littlefs_cut_or_flipped),
        cmocka_unit_test(test_spiffs_facts),
        cmocka_unit_test(test_spiffs_with_half_a_block_left),
        cmocka_unit_test(test_spiffs_damaged_block_is_named),
        cmocka_unit_test(test_spiffs_cut),
        cmocka_unit_test(test_no_cut_spiffs_with_a_count_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
