/* ESP8266: the Arduino core's two-part images and the native SDK's slots. */
#include "tests/unit/proto/image_fixture.h"

#define SKETCH_AT 0x1000

static struct sample elf2bin(void)
{
    return sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP8266 });
}

static struct sample tasmota(void)
{
    return sample_make((struct image_make){ .kind = IMAGE_MAKE_TASMOTA });
}

static void test_facts_of_a_sketch(void **state)
{
    (void)state;
    static const enum image_make_kind kinds[] = { IMAGE_MAKE_ESP8266, IMAGE_MAKE_TASMOTA };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct sample sample = sample_make(
            (struct image_make){ .kind = kinds[i], .bytes = 50000, .flash_mode = 2, .flash_bytes = 1 << 20 });
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
        assert_int_equal(facts.kind, IMAGE_ESP8266);
        assert_int_equal(facts.chip, CHIP_ESP8266);
        assert_int_equal(facts.flash_mode, 2);
        assert_int_equal(facts.flash_bytes, 1 << 20);
        assert_int_equal(facts.segments, 5);
        assert_int_equal(facts.image_bytes, 50000);
        assert_false(facts.has_run_sha256 || facts.has_app || facts.gzip);
        free(sample.at);
    }
}

static void test_flash_sizes(void **state)
{
    (void)state;
    static const uint32_t kib[16] = { 512, 256, 1024, 2048, 4096, 2048, 4096, 0, 8192, 16384 };
    for (unsigned nibble = 0; nibble < 16; nibble++) {
        struct sample sample = tasmota();
        sample.at[3] = (uint8_t)(nibble << 4 | 0xf);
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
        assert_int_equal(facts.flash_bytes, kib[nibble] * 1024);
        free(sample.at);
    }
}

/* A device reports the MD5 of its flash, where byte 2 is its own mode: if one of the four were wrong, devices
 * of that mode would be updated for ever. */
static void test_four_running_md5s(void **state)
{
    (void)state;
    struct sample sample = elf2bin();
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    expect_digest("MD5", sample.at, sample.n, facts.md5);
    expect_digest("SHA256", sample.at, sample.n, facts.sha256);
    assert_memory_equal(facts.run_md5[0], facts.md5, 16);
    for (uint8_t mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        sample.at[2] = mode;
        expect_digest("MD5", sample.at, sample.n, facts.run_md5[mode]);
    }
    free(sample.at);
}

static void test_signature_is_not_part_of_the_running_image(void **state)
{
    (void)state;
    static const uint32_t lengths[] = { 256, 512 }; /* RSA-2048, RSA-4096 */
    static const enum image_make_kind kinds[] = { IMAGE_MAKE_ESP8266, IMAGE_MAKE_TASMOTA };
    for (size_t i = 0; i < 4; i++) {
        struct image_make wish = { .kind = kinds[i / 2], .trailer = lengths[i % 2] };
        struct sample sample = sample_make(wish);
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
        assert_int_equal(facts.image_bytes, sample.n - lengths[i % 2] - 4);
        assert_int_equal(facts.signature_bytes, lengths[i % 2] + 4);
        expect_digest("MD5", sample.at, sample.n, facts.md5);
        expect_digest("MD5", sample.at, (size_t)facts.image_bytes, facts.run_md5[0]);
        free(sample.at);
    }
}

static void test_other_bytes_behind_are_refused(void **state)
{
    (void)state;
    static const uint8_t erased[4096] = { 0xff };
    struct sample dump = tasmota();
    sample_append(&dump, erased, sizeof erased);
    expect_fault(dump, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "the image ends at 4352, the file at 8448");
    struct sample signed_image = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP8266, .trailer = 256 });
    signed_image.at[signed_image.n - 4] ^= 1; /* the signature's length */
    expect_fault(signed_image, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "no signature");
}

static void test_crc_decides_where_elf2bin_wrote_one(void **state)
{
    (void)state;
    struct sample sample = elf2bin();
    sample.at[sample.n - 1] ^= 1; /* the XOR, which is not asked; the CRC covers it */
    expect_fault(sample, IMAGE_USE_SKETCH, IMAGE_FAULT_CHECKSUM, "the bytes have CRC");
    struct sample length = elf2bin();
    sample_set_u32(&length, 0x1010, 0);
    expect_fault(length, IMAGE_USE_SKETCH, IMAGE_FAULT_CHECKSUM, "the segments end at 4352, the length at 4112 says 0");
}

static void test_xor_decides_elsewhere(void **state)
{
    (void)state;
    struct sample sketch = tasmota();
    sketch.at[sketch.n - 20] ^= 0x10;
    expect_fault(sketch, IMAGE_USE_SKETCH, IMAGE_FAULT_CHECKSUM, "the sketch part's bytes have checksum");
    struct sample boot = tasmota();
    boot.at[20] ^= 0x10;
    expect_fault(boot, IMAGE_USE_SKETCH, IMAGE_FAULT_CHECKSUM, "the boot part's bytes have checksum");
}

static void test_header_faults(void **state)
{
    (void)state;
    struct sample mode = tasmota();
    mode.at[2] = 4; /* the device's Updater would fail its MD5 check */
    expect_fault(mode, IMAGE_USE_SKETCH, IMAGE_FAULT_HEADER, "flash mode 4");
    struct sample none = tasmota();
    none.at[SKETCH_AT + 1] = 0;
    expect_fault(none, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "0 segments at byte 4097");
    struct sample many = tasmota();
    many.at[1] = 17;
    expect_fault(many, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "17 segments at byte 1");
    struct sample huge = tasmota();
    sample_set_u32(&huge, SKETCH_AT + 12, 0xfffffffcu);
    expect_fault(huge, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "segment 1 of 5 claims 4294967292 bytes");
    struct sample longer = tasmota();
    sample_set_u32(&longer, SKETCH_AT + 12, 0x10000);
    expect_fault(longer, IMAGE_USE_SKETCH, IMAGE_FAULT_TRUNCATED, "segment 1 of 5 ends at 69648, the file at 4352");
}

static void test_single_part_images_are_refused(void **state)
{
    (void)state;
    struct sample alone = tasmota();
    alone.at[SKETCH_AT] = 0xaa;
    expect_fault(alone, IMAGE_USE_SKETCH, IMAGE_FAULT_HEADER, "byte 4096 is 0xaa");
    struct sample boot = tasmota();
    boot.n = SKETCH_AT;
    expect_fault(boot, IMAGE_USE_SKETCH, IMAGE_FAULT_TRUNCATED, "the sketch begins at 4096, the file ends at 4096");

    /* the sketch part by itself, whose own end lies beyond where a sketch would begin */
    struct sample large = sample_make((struct image_make){ .kind = IMAGE_MAKE_TASMOTA, .bytes = 0x3000 });
    struct sample part = sample_of(large.at + SKETCH_AT, large.n - SKETCH_AT);
    free(large.at);
    expect_fault(part, IMAGE_USE_SKETCH, IMAGE_FAULT_HEADER, "its first part ends at 8192");
}

static void test_sketch_of_one_empty_segment(void **state)
{
    (void)state;
    struct sample sample = tasmota();
    static const uint8_t part[] = { 0xe9, 1, 0, 0x40, 0, 0, 0x10, 0x40, 0, 0, 0x10, 0x40, 0, 0, 0, 0 };
    struct sample small = sample_of(sample.at, SKETCH_AT);
    free(sample.at);
    sample_append(&small, part, sizeof part);
    expect_fault(sample_of(small.at, small.n), IMAGE_USE_SKETCH, IMAGE_FAULT_TRUNCATED, "row ends at 4128");
    static const uint8_t row[16] = { [15] = 0xef };
    sample_append(&small, row, sizeof row);
    struct image_facts facts = expect_ok(&small, IMAGE_USE_SKETCH);
    assert_int_equal(facts.segments, 1);
    free(small.at);
}

static void test_no_cut_sketch_passes(void **state)
{
    (void)state;
    expect_no_cut_passes(elf2bin(), IMAGE_USE_SKETCH);
    expect_no_cut_passes(tasmota(), IMAGE_USE_SKETCH);
}

/* elf2bin's CRC covers every byte. Of Tasmota's form the padding between the parts and the headers are open.
 */
static void test_no_flipped_sketch_passes(void **state)
{
    (void)state;
    struct sample sample = elf2bin();
    expect_no_flip_passes(sample, sample.n, IMAGE_USE_SKETCH);
}

static void test_slot_facts(void **state)
{
    (void)state;
    static const struct {
        enum image_make_kind kind;
        unsigned slot;
    } kinds[] = { { IMAGE_MAKE_USER1, 1 }, { IMAGE_MAKE_USER2, 2 } };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct sample sample = sample_make((struct image_make){ .kind = kinds[i].kind, .flash_bytes = 2 << 20 });
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_SLOT);
        assert_int_equal(facts.kind, IMAGE_ESP8266_SLOT);
        assert_int_equal(facts.chip, CHIP_ESP8266);
        assert_int_equal(facts.slot, kinds[i].slot);
        assert_int_equal(facts.flash_mode, 0xff);
        assert_int_equal(facts.flash_bytes, 2 << 20); /* from the part inside */
        assert_int_equal(facts.segments, 3);
        assert_int_equal(facts.image_bytes, sample.n);
        expect_digest("MD5", sample.at, sample.n, facts.run_md5[3]);
        free(sample.at);
    }
}

/* zlib's CRC as the SDK stores it; apart from image_make on purpose. */
static void reseal_slot(struct sample *sample)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < sample->n - 4; i++) {
        crc ^= sample->at[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
        }
    }
    crc = ~crc;
    sample_set_u32(sample, sample->n - 4, (crc & 0x80000000u) != 0 ? ~crc : crc + 1);
}

static void test_slot_of_an_older_sdk_has_mode_and_size(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_USER1 });
    sample.at[2] = 3;
    sample.at[3] = 0x20;
    reseal_slot(&sample);
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SLOT);
    assert_int_equal(facts.slot, 0);
    assert_int_equal(facts.flash_mode, 3);
    assert_int_equal(facts.flash_bytes, 1 << 20);
    free(sample.at);
}

static void test_slot_faults(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        enum image_fault fault;
        const char *words;
    } faults[] = {
        { 1, 3, IMAGE_FAULT_HEADER, "byte 1 is 0x03" },
        { 2, 4, IMAGE_FAULT_HEADER, "flash mode 4" },
        { 8, 1, IMAGE_FAULT_HEADER, "address 0x00000001" },
        { 15, 0x10, IMAGE_FAULT_TRUNCATED, "the code ends at" },
        { 192, 0xaa, IMAGE_FAULT_SEGMENTS, "byte 192, behind the code, is 0xaa" },
        { 193, 17, IMAGE_FAULT_SEGMENTS, "17 segments" },
        { 216, 0xff, IMAGE_FAULT_CHECKSUM, "checksum" },
        { 100, 0xff, IMAGE_FAULT_DIGEST, "the bytes have CRC" },
    };
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_USER1 });
        assert_int_equal(sample.at[192], 0xe9);
        sample.at[faults[i].at] = faults[i].value;
        expect_fault(sample, IMAGE_USE_SLOT, faults[i].fault, faults[i].words);
    }
    struct sample longer = sample_make((struct image_make){ .kind = IMAGE_MAKE_USER1 });
    sample_append(&longer, "", 1);
    expect_fault(longer, IMAGE_USE_SLOT, IMAGE_FAULT_SEGMENTS, "ends at 260, the file at 261");
}

static void test_no_cut_or_flipped_slot_passes(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_USER2 });
    expect_no_cut_passes(sample_of(sample.at, sample.n), IMAGE_USE_SLOT);
    expect_no_flip_passes(sample, sample.n, IMAGE_USE_SLOT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_of_a_sketch),
        cmocka_unit_test(test_flash_sizes),
        cmocka_unit_test(test_four_running_md5s),
        cmocka_unit_test(test_signature_is_not_part_of_the_running_image),
        cmocka_unit_test(test_other_bytes_behind_are_refused),
        cmocka_unit_test(test_crc_decides_where_elf2bin_wrote_one),
        cmocka_unit_test(test_xor_decides_elsewhere),
        cmocka_unit_test(test_header_faults),
        cmocka_unit_test(test_single_part_images_are_refused),
        cmocka_unit_test(test_sketch_of_one_empty_segment),
        cmocka_unit_test(test_no_cut_sketch_passes),
        cmocka_unit_test(test_no_flipped_sketch_passes),
        cmocka_unit_test(test_slot_facts),
        cmocka_unit_test(test_slot_of_an_older_sdk_has_mode_and_size),
        cmocka_unit_test(test_slot_faults),
        cmocka_unit_test(test_no_cut_or_flipped_slot_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
