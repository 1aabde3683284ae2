/* The ESP32 family: applications of every chip, and what only looks like one. */
#include "tests/unit/proto/image_fixture.h"

static struct sample app(void)
{
    return sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32 });
}

/* Makes the appended SHA-256 right again after a change that is to be judged by itself. */
static void reseal(struct sample *sample)
{
    EVP_Digest(sample->at, sample->n - 32, sample->at + sample->n - 32, NULL, EVP_sha256(), NULL);
}

static void test_every_chip_of_the_list(void **state)
{
    (void)state;
    static const enum chip chips[] = {
#define X(name, id, text) CHIP_##name,
        CHIP_LIST(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(chips); i++) {
        struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .chip = chips[i] });
        if (!chip_is_esp32_family(chips[i])) {
            expect_fault(sample, IMAGE_USE_SKETCH, IMAGE_FAULT_CHIP, "chip id");
            continue;
        }
        struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
        assert_int_equal(facts.kind, IMAGE_ESP32);
        assert_int_equal(facts.chip, chips[i]);
        free(sample.at);
    }
    struct sample strange = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .chip = (enum chip)6 });
    expect_fault(strange, IMAGE_USE_SKETCH, IMAGE_FAULT_CHIP, "chip id 6 (0x0006) at byte 12");
}

static void test_facts_of_an_application(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32,
                                                            .bytes = 70000,
                                                            .chip = CHIP_ESP32_S3,
                                                            .flash_mode = 2,
                                                            .flash_bytes = 16 << 20,
                                                            .version = "2.7.1-rc1",
                                                            .project = "a project of exactly 32 bytes...and more" });
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    assert_int_equal(facts.segments, 2);
    assert_int_equal(facts.flash_mode, 2);
    assert_int_equal(facts.flash_bytes, 16 << 20);
    assert_int_equal(facts.image_bytes, 70000);
    assert_true(facts.has_app);
    assert_string_equal(facts.app_version, "2.7.1-rc1");
    assert_string_equal(facts.app_project, "a project of exactly 32 bytes...");
    assert_string_equal(facts.app_idf, "v5.3.1");
    assert_int_equal(facts.revision_min, 0);
    assert_int_equal(facts.revision_max, 0xffff);
    free(sample.at);
}

static void test_revisions_new_and_old(void **state)
{
    (void)state;
    struct sample sample = app();
    sample.at[14] = 3; /* the old field counts major revisions alone */
    reseal(&sample);
    assert_int_equal(expect_ok(&sample, IMAGE_USE_SKETCH).revision_min, 300);
    sample.at[15] = 101;
    sample.at[17] = 199;
    sample.at[18] = 0;
    reseal(&sample);
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    assert_int_equal(facts.revision_min, 101);
    assert_int_equal(facts.revision_max, 199);
    free(sample.at);
}

static void test_flash_sizes(void **state)
{
    (void)state;
    for (unsigned nibble = 0; nibble < 16; nibble++) {
        struct sample sample = app();
        sample.at[3] = (uint8_t)(nibble << 4);
        reseal(&sample);
        uint64_t expected = nibble <= 7 ? UINT64_C(1048576) << nibble : 0;
        assert_int_equal(expect_ok(&sample, IMAGE_USE_SKETCH).flash_bytes, expected);
        free(sample.at);
    }
}

/* x-ESP32-sketch-sha256 is not the file's SHA-256, and sketch-md5 counts the appended digest but no
 * signature. */
static void test_running_digests(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .trailer = 4096 });
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    size_t image = sample.n - 4096;
    assert_int_equal(facts.image_bytes, image);
    assert_true(facts.has_run_sha256);
    assert_memory_equal(facts.run_sha256, sample.at + image - 32, 32);
    expect_digest("SHA256", sample.at, image - 32, facts.run_sha256);
    expect_digest("SHA256", sample.at, sample.n, facts.sha256);
    expect_digest("MD5", sample.at, sample.n, facts.md5);
    for (int mode = 0; mode < IMAGE_FLASH_MODES; mode++) {
        expect_digest("MD5", sample.at, image, facts.run_md5[mode]);
    }
    free(sample.at);
}

static void test_image_without_appended_digest(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .no_hash = true });
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    assert_int_equal(facts.image_bytes, sample.n);
    expect_digest("SHA256", sample.at, sample.n, facts.run_sha256); /* the device computes it over all */
    free(sample.at);
}

static void test_application_without_description(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .no_app = true });
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    assert_false(facts.has_app);
    assert_string_equal(facts.app_version, "");
    free(sample.at);
}

static void test_sums(void **state)
{
    (void)state;
    struct sample sum =
        sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .broken = IMAGE_MAKE_BREAK_CHECKSUM });
    expect_fault(sum, IMAGE_USE_SKETCH, IMAGE_FAULT_CHECKSUM, "the one at 319 is");
    struct sample digest =
        sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .broken = IMAGE_MAKE_BREAK_DIGEST });
    expect_fault(digest, IMAGE_USE_SKETCH, IMAGE_FAULT_DIGEST, "at its byte 0");
    struct sample last = app();
    last.at[last.n - 1] ^= 1;
    expect_fault(last, IMAGE_USE_SKETCH, IMAGE_FAULT_DIGEST, "at its byte 24");
}

static void test_header_faults(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        enum image_fault fault;
        const char *words;
    } faults[] = {
        { 1, 0, IMAGE_FAULT_SEGMENTS, "0 segments" },
        { 1, 17, IMAGE_FAULT_SEGMENTS, "17 segments" },
        { 2, 6, IMAGE_FAULT_HEADER, "flash mode 6" },
        { 23, 2, IMAGE_FAULT_HEADER, "hash flag 2" },
        { 28, 0x01, IMAGE_FAULT_SEGMENTS, "in steps of 4" },
        { 31, 0xff, IMAGE_FAULT_SEGMENTS, "segment 1 of 2 claims" },
        { 29, 0xf0, IMAGE_FAULT_TRUNCATED, "segment 1 of 2 ends at" },
    };
    for (size_t i = 0; i < COUNT_OF(faults); i++) {
        struct sample sample = app();
        sample.at[faults[i].at] = faults[i].value;
        reseal(&sample);
        expect_fault(sample, IMAGE_USE_SKETCH, faults[i].fault, faults[i].words);
    }
    struct sample sixteen = app();
    sixteen.at[1] = 16; /* possible, but the third is not there */
    reseal(&sixteen);
    expect_fault(sixteen, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "segment 3 of 16");
}

/* Served as an update, a factory image leaves a device that can not start. */
static void test_factory_images_of_every_layout(void **state)
{
    (void)state;
    static const enum chip chips[] = { CHIP_ESP32, CHIP_ESP32_S2, CHIP_ESP32_C3, CHIP_ESP32_S3, CHIP_ESP32_C6 };
    for (size_t i = 0; i < COUNT_OF(chips); i++) {
        struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_FACTORY, .chip = chips[i] });
        expect_fault(sample, IMAGE_USE_SKETCH, IMAGE_FAULT_FACTORY, "a factory image");
    }
    struct sample late = sample_make((struct image_make){ .kind = IMAGE_MAKE_FACTORY });
    struct sample p4 = sample_of(late.at, 0x1000);
    sample_append(&p4, late.at, late.n); /* the boot loader at 0x2000 */
    free(late.at);
    expect_fault(p4, IMAGE_USE_SKETCH, IMAGE_FAULT_FACTORY, "8192 bytes of empty flash");
}

/* Tools that set the flash size in the boot loader's header leave its digest wrong. */
static void test_factory_image_with_a_patched_header(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_FACTORY, .chip = CHIP_ESP32_C3 });
    sample.at[3] ^= 0x10;
    expect_fault(sample, IMAGE_USE_SKETCH, IMAGE_FAULT_FACTORY, "then partitions at 32768");
}

static void test_boot_loader_alone(void **state)
{
    (void)state;
    struct sample factory = sample_make((struct image_make){ .kind = IMAGE_MAKE_FACTORY, .chip = CHIP_ESP32_C3 });
    struct sample described = sample_of(factory.at, 352);
    free(factory.at);
    struct sample plain = sample_of(described.at, described.n);
    plain.at[32] ^= 0xff;  /* an older one, without its description: its segments in RAM give it away */
    plain.at[319] ^= 0xff; /* the checksum */
    reseal(&plain);
    expect_fault(described, IMAGE_USE_SKETCH, IMAGE_FAULT_FACTORY, "a boot loader");
    expect_fault(plain, IMAGE_USE_SKETCH, IMAGE_FAULT_FACTORY, "0 of 2 segments run from flash");
}

static void test_partition_magic_within_an_application_is_chance(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .bytes = 40000 });
    sample.at[sample.n - 33] ^= sample.at[0x8000] ^ sample.at[0x8001] ^ 0xaa ^ 0x50; /* keeps the checksum right */
    sample.at[0x8000] = 0xaa;
    sample.at[0x8001] = 0x50;
    reseal(&sample);
    expect_ok(&sample, IMAGE_USE_SKETCH);
    free(sample.at);
}

static void test_few_bytes_behind_are_no_signature(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .trailer = 63 });
    expect_fault(sample, IMAGE_USE_SKETCH, IMAGE_FAULT_SEGMENTS, "the image ends at 352, the file at 415");
}

static void test_no_cut_or_flipped_application_passes(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .bytes = 1024 });
    expect_no_cut_passes(sample_of(sample.at, sample.n), IMAGE_USE_SKETCH);
    expect_no_flip_passes(sample, sample.n, IMAGE_USE_SKETCH);
    expect_no_cut_passes(sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP32, .no_hash = true }),
                         IMAGE_USE_SKETCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_chip_of_the_list),
        cmocka_unit_test(test_facts_of_an_application),
        cmocka_unit_test(test_revisions_new_and_old),
        cmocka_unit_test(test_flash_sizes),
        cmocka_unit_test(test_running_digests),
        cmocka_unit_test(test_image_without_appended_digest),
        cmocka_unit_test(test_application_without_description),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_header_faults),
        cmocka_unit_test(test_factory_images_of_every_layout),
        cmocka_unit_test(test_factory_image_with_a_patched_header),
        cmocka_unit_test(test_boot_loader_alone),
        cmocka_unit_test(test_partition_magic_within_an_application_is_chance),
        cmocka_unit_test(test_few_bytes_behind_are_no_signature),
        cmocka_unit_test(test_no_cut_or_flipped_application_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
