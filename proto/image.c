/* Recognises an image by its first bytes, has it judged by the check of its format, and computes its digests.
 *
 * The hard thing is the order. A file system may begin with any byte, so those are looked for first, by marks
 * that code does not have by chance; E9 begins four things of which two are images for a device; and gzip is
 * looked into once, with a bound, because sixty bytes of it can claim gigabytes.
 */
#include "proto/image.h"
#include "proto/image_checks.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#define ZLIB_CONST
#include <zlib.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static bool starts_with(struct image_view view, const char *magic, size_t n)
{
    return image_has(view, 0, n) && memcmp(view.at, magic, n) == 0;
}

static bool is_html(struct image_view view)
{
    static const char *const openings[] = { "<!doctype", "<html", "<?xml", "<head", "<body", "<!--" };
    static const char blanks[] = " \t\r\n";
    size_t at = starts_with(view, "\xef\xbb\xbf", 3) ? 3 : 0;
    while (at < view.len && view.at[at] != 0 && strchr(blanks, view.at[at]) != NULL) {
        at++;
    }
    for (size_t i = 0; i < COUNT_OF(openings); i++) {
        size_t n = strlen(openings[i]);
        if (image_has(view, at, n) && strncasecmp((const char *)view.at + at, openings[i], n) == 0) {
            return true;
        }
    }
    return false;
}

static bool refuse_html(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    (void)facts;
    return image_refuse(verdict, IMAGE_FAULT_HTML,
                        "download the firmware itself: what was saved is the page a server answered with",
                        "a web page of %zu bytes, not firmware", view.len);
}

static bool is_anything(struct image_view view)
{
    (void)view;
    return true;
}

static const struct {
    const char *magic;
    size_t n;
    const char *what, *remedy;
} strangers[] = {
    { "\x1f\x8b", 2, "gzip within gzip", "compress the image once" },
    { "PK\3\4", 4, "a zip archive", "unpack it and use the .bin inside" },
    { "\x7f"
      "ELF",
      4, "an ELF program", "use the .bin that the build made from it" },
    { "UF2\n", 4, "a UF2 file", "use the .bin of the same build" },
    { ":10", 3, "an Intel hex file", "use the .bin of the same build" },
    { "\xaa\x50", 2, "a partition table", "use the application's .bin, not .partitions.bin" },
};

static bool refuse_stranger(struct image_view view, struct image_facts *facts, struct image_verdict *verdict)
{
    (void)facts;
    char hex[2 * 8 + 1];
    hex_encode(view.at, view.len < 8 ? view.len : 8, hex);
    for (size_t i = 0; i < COUNT_OF(strangers); i++) {
        if (starts_with(view, strangers[i].magic, strangers[i].n)) {
            return image_refuse(verdict, IMAGE_FAULT_NOT_AN_IMAGE, strangers[i].remedy,
                                "%s: it begins with %s, an image with e9 or ea", strangers[i].what, hex);
        }
    }
    return image_refuse(verdict, IMAGE_FAULT_NOT_AN_IMAGE,
                        "use the .bin that the build wrote; it may have been damaged on its way here",
                        "it begins with %s, a sketch with e9, a native slot with ea, and it is no file system", hex);
}

typedef bool (*is_fn)(struct image_view view);
typedef bool (*check_fn)(struct image_view view, struct image_facts *facts, struct image_verdict *verdict);

/* The first row that is true decides. `what` is NULL where the row refuses every image. */
static const struct form {
    is_fn is;
    check_fn check;
    enum image_use use;
    const char *what;
} forms[] = {
    { image_is_littlefs, image_check_littlefs, IMAGE_USE_FS, "a LittleFS image" },
    { image_is_spiffs, image_check_spiffs, IMAGE_USE_FS, "a SPIFFS image" },
    { image_is_slot, image_check_slot, IMAGE_USE_SLOT, "a native ESP8266 slot" },
    { image_is_esp8266, image_check_esp8266, IMAGE_USE_SKETCH, "an ESP8266 sketch" },
    { image_is_esp32, image_check_esp32, IMAGE_USE_SKETCH, "an ESP32-family sketch" },
    { image_is_flash_start, image_refuse_flash_start, IMAGE_USE_SKETCH, NULL },
    { is_html, refuse_html, IMAGE_USE_SKETCH, NULL },
    { is_anything, refuse_stranger, IMAGE_USE_SKETCH, NULL },
};

static bool refuse_use(const struct form *form, enum image_use use, struct image_verdict *verdict)
{
    static const char *const promises[] = {
        [IMAGE_USE_SKETCH] = "a sketch",
        [IMAGE_USE_FS] = "a file system",
        [IMAGE_USE_SLOT] = "a native SDK slot",
    };
    static const char *const remedies[] = {
        [IMAGE_USE_SKETCH] = "name it <type>/<version>.bin or <project>_<version>.ino.<type>.bin",
        [IMAGE_USE_FS] = "name it <type>/<version>.fs.bin, or littlefs_<version>_<N>M.bin or spiffs_<version>_<N>M.bin",
        [IMAGE_USE_SLOT] = "name it <type>/<version>.user1.bin or <type>/<version>.user2.bin",
    };
    return image_refuse(verdict, IMAGE_FAULT_WRONG_USE, remedies[form->use], "it is %s, its name says %s", form->what,
                        promises[use]);
}

static bool check_form(struct image_view view, enum image_use use, struct image_facts *facts,
                       struct image_verdict *verdict)
{
    const struct form *form = forms;
    while (!form->is(view)) {
        form++;
    }
    if (form->what != NULL && form->use != use) {
        return refuse_use(form, use, verdict);
    }
    return form->check(view, facts, verdict);
}

/* A buffer that doubles up to one byte more than the bound, so that reaching it and passing it differ. */
struct inflated {
    uint8_t *at;
    size_t len;
    size_t size;
    size_t packed; /* bytes of the file that it came from */
};

static bool inflated_grow(struct inflated *out, size_t packed)
{
    size_t size = out->size == 0 ? 4 * packed + IMAGE_SECTOR : 2 * out->size;
    if (size > IMAGE_BYTES_MAX + 1) {
        size = IMAGE_BYTES_MAX + 1;
    }
    uint8_t *grown = realloc(out->at, size);
    if (grown != NULL) {
        out->at = grown;
        out->size = size;
    }
    return grown != NULL;
}

#define REMEDY_GZIP "compress the image again and copy it whole"

/* How inflating ended, in a verdict. A signed .gz has its signature behind it. */
static bool judge_inflated(struct image_view file, int result, const struct inflated *out,
                           struct image_verdict *verdict)
{
    size_t used = out->packed;
    if (out->len > IMAGE_BYTES_MAX) {
        return image_refuse(verdict, IMAGE_FAULT_GZIP_BOMB, "compress a real image; none is so large",
                            "%zu bytes unpack to more than %u", file.len, IMAGE_BYTES_MAX);
    }
    if (result == Z_MEM_ERROR) {
        return image_refuse(verdict, IMAGE_FAULT_UNREADABLE, "give the server more memory",
                            "no memory to unpack %zu bytes beyond %zu", file.len, out->len);
    }
    if (result != Z_STREAM_END) {
        return image_refuse(verdict, IMAGE_FAULT_GZIP, REMEDY_GZIP, "gzip %s at byte %zu of %zu, %zu bytes unpacked",
                            used == file.len ? "is cut off" : "is damaged", used, file.len, out->len);
    }
    if (used != file.len && image_signature_bytes(file, used) == 0) {
        return image_refuse(verdict, IMAGE_FAULT_GZIP, REMEDY_GZIP,
                            "gzip ends at %zu, the file at %zu, and no signature lies between", used, file.len);
    }
    if (out->len == 0) {
        return image_refuse(verdict, IMAGE_FAULT_EMPTY, REMEDY_GZIP, "%zu bytes of gzip, 0 bytes inside", file.len);
    }
    return true;
}

static bool inflate_file(struct image_view file, struct inflated *out, struct image_verdict *verdict)
{
    z_stream stream = { .next_in = file.at, .avail_in = (uInt)file.len };
    int result = inflateInit2(&stream, 16 + MAX_WBITS);
    while (result == Z_OK && out->len <= IMAGE_BYTES_MAX) {
        if (out->len == out->size && !inflated_grow(out, file.len)) {
            result = Z_MEM_ERROR;
            break;
        }
        stream.next_out = out->at + out->len;
        stream.avail_out = (uInt)(out->size - out->len);
        result = inflate(&stream, Z_NO_FLUSH);
        out->len = out->size - stream.avail_out;
    }
    out->packed = file.len - stream.avail_in;
    inflateEnd(&stream);
    return judge_inflated(file, result, out, verdict);
}

static bool check_packed(struct image_view file, enum image_use use, struct image_facts *facts,
                         struct image_verdict *verdict)
{
    struct inflated inside = { 0 };
    bool ok = inflate_file(file, &inside, verdict) &&
              check_form((struct image_view){ inside.at, inside.len }, use, facts, verdict);
    if (ok) {
        facts->gzip = true;
        facts->signature_bytes =
            (uint32_t)(file.len - inside.packed); /* one within protects nothing: eboot asks none */
        image_digest(file, (struct image_view){ inside.at, facts->image_bytes }, facts);
    }
    free(inside.at);
    return ok;
}

static bool check_plain(struct image_view file, enum image_use use, struct image_facts *facts,
                        struct image_verdict *verdict)
{
    if (!check_form(file, use, facts, verdict)) {
        return false;
    }
    image_digest(file, (struct image_view){ file.at, facts->image_bytes }, facts);
    return true;
}

bool image_check(const uint8_t *bytes, size_t n, enum image_use use, struct image_facts *facts,
                 struct image_verdict *verdict)
{
    assert(bytes != NULL || n == 0);
    struct image_view file = { bytes, n };
    if (n == 0) {
        return image_refuse(verdict, IMAGE_FAULT_EMPTY, "copy the file again", "0 bytes");
    }
    if (n > IMAGE_BYTES_MAX) {
        return image_refuse(verdict, IMAGE_FAULT_TOO_LARGE, "use the application's .bin, not a dump of a whole flash",
                            "%zu bytes, at most %u are checked", n, IMAGE_BYTES_MAX);
    }
    struct image_facts found = { 0 };
    bool packed = starts_with(file, "\x1f\x8b", 2) && !image_is_littlefs(file) && !image_is_spiffs(file);
    bool ok = packed ? check_packed(file, use, &found, verdict) : check_plain(file, use, &found, verdict);
    if (ok) {
        *facts = found;
    }
    return ok;
}
