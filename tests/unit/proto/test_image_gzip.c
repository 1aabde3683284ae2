/* Compressed images: the facts are of what is inside, the digests sent of the file. */
#include "tests/unit/proto/image_fixture.h"

#define ZLIB_CONST
#include <zlib.h>

static struct sample packed_sketch(void)
{
    return sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP8266, .bytes = 20000, .gzip = true });
}

static struct sample pack(struct sample inside)
{
    z_stream stream = { .next_in = inside.at, .avail_in = (uInt)inside.n };
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t bound = deflateBound(&stream, inside.n);
    uint8_t *packed = malloc(bound);
    assert_non_null(packed);
    stream.next_out = packed;
    stream.avail_out = (uInt)bound;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    struct sample sample = sample_of(packed, stream.total_out);
    deflateEnd(&stream);
    free(packed);
    free(inside.at);
    return sample;
}

static void test_facts_are_of_the_image_inside(void **state)
{
    (void)state;
    struct sample packed = packed_sketch();
    struct sample plain = sample_make((struct image_make){ .kind = IMAGE_MAKE_ESP8266, .bytes = 20000 });
    struct image_facts facts = expect_ok(&packed, IMAGE_USE_SKETCH);
    struct image_facts of_plain = expect_ok(&plain, IMAGE_USE_SKETCH);
    assert_true(facts.gzip);
    assert_int_equal(facts.kind, IMAGE_ESP8266);
    assert_int_equal(facts.file_bytes, packed.n);
    assert_int_equal(facts.image_bytes, plain.n);
    expect_digest("MD5", packed.at, packed.n, facts.md5);
    expect_digest("SHA256", packed.at, packed.n, facts.sha256);
    assert_memory_equal(facts.run_md5, of_plain.run_md5, sizeof facts.run_md5); /* boot loader unpacks it */
    free(packed.at);
    free(plain.at);
}

static void test_every_kind_may_be_compressed(void **state)
{
    (void)state;
    static const struct {
        enum image_make_kind kind;
        enum image_use use;
    } kinds[] = {
        { IMAGE_MAKE_TASMOTA, IMAGE_USE_SKETCH }, { IMAGE_MAKE_ESP32, IMAGE_USE_SKETCH },
        { IMAGE_MAKE_USER1, IMAGE_USE_SLOT },     { IMAGE_MAKE_SPIFFS, IMAGE_USE_FS },
        { IMAGE_MAKE_LITTLEFS, IMAGE_USE_FS },
    };
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct sample sample = sample_make((struct image_make){ .kind = kinds[i].kind, .gzip = true });
        assert_true(expect_ok(&sample, kinds[i].use).gzip);
        free(sample.at);
    }
}

static void test_faults_inside_are_found(void **state)
{
    (void)state;
    struct image_make wish = { .kind = IMAGE_MAKE_ESP32, .broken = IMAGE_MAKE_BREAK_CHECKSUM, .gzip = true };
    expect_fault(sample_make(wish), IMAGE_USE_SKETCH, IMAGE_FAULT_CHECKSUM, "checksum");
    wish = (struct image_make){ .kind = IMAGE_MAKE_FACTORY, .gzip = true };
    expect_fault(sample_make(wish), IMAGE_USE_SKETCH, IMAGE_FAULT_FACTORY, "factory");
    wish = (struct image_make){ .kind = IMAGE_MAKE_HTML, .gzip = true };
    expect_fault(sample_make(wish), IMAGE_USE_SKETCH, IMAGE_FAULT_HTML, "web page of 103 bytes");
    wish = (struct image_make){ .kind = IMAGE_MAKE_SPIFFS, .gzip = true };
    expect_fault(sample_make(wish), IMAGE_USE_SKETCH, IMAGE_FAULT_WRONG_USE, "SPIFFS");
    expect_fault(pack(sample_of("", 0)), IMAGE_USE_SKETCH, IMAGE_FAULT_EMPTY, "0 bytes inside");
}

static void test_gzip_within_gzip(void **state)
{
    (void)state;
    expect_fault(pack(packed_sketch()), IMAGE_USE_SKETCH, IMAGE_FAULT_NOT_AN_IMAGE, "gzip within gzip");
}

static void test_trailing_bytes(void **state)
{
    (void)state;
    struct sample longer = packed_sketch();
    sample_append(&longer, "\n", 1);
    expect_fault(longer, IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP, "no signature lies between");
    struct sample twice = packed_sketch();
    struct sample second = packed_sketch();
    sample_append(&twice, second.at, second.n); /* a second member, which the boot loader does not read */
    free(second.at);
    expect_fault(twice, IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP, "no signature lies between");
}

static void test_signed_after_compression(void **state)
{
    (void)state;
    struct sample sample = packed_sketch();
    uint8_t trailer[260] = { 0x5a };
    trailer[257] = 1; /* 256, little endian */
    sample_append(&sample, trailer, sizeof trailer);
    struct image_facts facts = expect_ok(&sample, IMAGE_USE_SKETCH);
    expect_digest("MD5", sample.at, sample.n, facts.md5);
    assert_int_equal(facts.image_bytes, 20000);
    assert_int_equal(facts.signature_bytes, sizeof trailer);
    free(sample.at);
}

static void test_damage_is_gzips_own(void **state)
{
    (void)state;
    struct sample cut = packed_sketch();
    cut.n -= 1;
    expect_fault(cut, IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP, "gzip is cut off");
    struct sample crc = packed_sketch();
    crc.at[crc.n - 8] ^= 1;
    expect_fault(crc, IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP, "gzip is damaged");
    struct sample method = packed_sketch();
    method.at[2] = 7;
    expect_fault(method, IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP, "gzip is damaged");
    expect_fault(sample_of("\x1f\x8b", 2), IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP, "gzip is cut off at byte 2 of 2");
}

static void test_bomb_is_bounded(void **state)
{
    (void)state;
    struct sample zeros = { calloc(1, IMAGE_BYTES_MAX + 1), IMAGE_BYTES_MAX + 1 };
    assert_non_null(zeros.at);
    struct sample most = sample_of(zeros.at, IMAGE_BYTES_MAX);
    expect_fault(pack(zeros), IMAGE_USE_SKETCH, IMAGE_FAULT_GZIP_BOMB, "unpack to more than 33554432");
    expect_fault(pack(most), IMAGE_USE_SKETCH, IMAGE_FAULT_NOT_AN_IMAGE, "0000000000000000"); /* the bound itself */
}

static void test_no_cut_gzip_passes(void **state)
{
    (void)state;
    expect_no_cut_passes(sample_make((struct image_make){ .kind = IMAGE_MAKE_TASMOTA, .gzip = true }),
                         IMAGE_USE_SKETCH);
}

/* A match may be copied from several places, and some bits only fill a byte: such a flip leaves the image
 * whole. */
static void test_flipped_gzip_passes_only_with_the_same_image(void **state)
{
    (void)state;
    struct sample sample = sample_make((struct image_make){ .kind = IMAGE_MAKE_TASMOTA, .gzip = true });
    struct image_facts whole = expect_ok(&sample, IMAGE_USE_SKETCH);
    size_t passed = 0;
    for (size_t bit = 80; bit < 8 * sample.n; bit++) { /* before: time, level and system, which say nothing */
        sample.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct image_facts facts;
        struct image_verdict verdict;
        if (image_check(sample.at, sample.n, IMAGE_USE_SKETCH, &facts, &verdict)) {
            assert_memory_equal(facts.run_md5, whole.run_md5, sizeof facts.run_md5);
            passed++;
        }
        sample.at[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_in_range(passed, 0, sample.n / 4); /* of eight times as many */
    free(sample.at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_are_of_the_image_inside),
        cmocka_unit_test(test_every_kind_may_be_compressed),
        cmocka_unit_test(test_faults_inside_are_found),
        cmocka_unit_test(test_gzip_within_gzip),
        cmocka_unit_test(test_trailing_bytes),
        cmocka_unit_test(test_signed_after_compression),
        cmocka_unit_test(test_damage_is_gzips_own),
        cmocka_unit_test(test_bomb_is_bounded),
        cmocka_unit_test(test_no_cut_gzip_passes),
        cmocka_unit_test(test_flipped_gzip_passes_only_with_the_same_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
