/* updraft-make-image: writes one made-up image, for tests by hand and in scripts. */
#include "tests/support/image_make.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const char usage[] =
    "usage: updraft-make-image KIND OUT [key=value ...]\n"
    "\n"
    "Writes a made-up image, for trying things out: updraftd takes it for a real one, no device can run it.\n"
    "\n"
    "  KIND   esp8266 tasmota user1 user2 esp32 factory spiffs littlefs html\n"
    "  OUT    a file, or - for standard output\n"
    "  size=512K                  before compression; the smallest possible by default\n"
    "  mode=qio|qout|dio|dout     flash mode (qio)\n"
    "  flash=4M                   flash size that the header asks for\n"
    "  chip=esp32c3               of esp32 and factory images; spiffs: esp8266 or any other form\n"
    "  version= project=          of esp32 images\n"
    "  seed=N                     another seed, another image\n"
    "  block=8192                 of file systems (4096)\n"
    "  empty=1                    file systems with room for the trailer of `updraft sign --trailer`\n"
    "  trailer=256                bytes of signature behind the image\n"
    "  app=0 hash=0               esp32 without application description, without appended SHA-256\n"
    "  gzip=1                     compressed\n"
    "  break=checksum|digest|truncate|segments\n"
    "                             spoiled in this way, for checks that are to fail\n";

/* Digits, perhaps with K or M behind them. */
static bool parse_size(const char *text, uint64_t max, uint64_t *size)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
    end += shift != 0;
    if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || number > max >> shift) {
        return false;
    }
    *size = (uint64_t)number << shift;
    return true;
}

static bool find_word(const char *word, const char *const *words, size_t count, unsigned *place)
{
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(word, words[i]) == 0) {
            *place = i;
            return true;
        }
    }
    return false;
}

static bool set_kind(struct image_make *wish, const char *value)
{
    static const char *const kinds[] = { "esp8266", "tasmota", "user1",    "user2", "esp32",
                                         "factory", "spiffs",  "littlefs", "html" };
    unsigned place;
    bool ok = find_word(value, kinds, COUNT_OF(kinds), &place);
    if (ok) {
        wish->kind = (enum image_make_kind)place;
    }
    return ok;
}

static bool set_mode(struct image_make *wish, const char *value)
{
    static const char *const modes[IMAGE_FLASH_MODES] = { "qio", "qout", "dio", "dout" };
    return find_word(value, modes, IMAGE_FLASH_MODES, &wish->flash_mode);
}

static bool set_flash(struct image_make *wish, const char *value)
{
    bool ok = parse_size(value, 16 << 20, &wish->flash_bytes);
    bool power_of_two = (wish->flash_bytes & (wish->flash_bytes - 1)) == 0;
    uint64_t least = wish->kind == IMAGE_MAKE_ESP32 || wish->kind == IMAGE_MAKE_FACTORY ? 1 << 20 : 256 << 10;
    return ok && power_of_two && wish->flash_bytes >= least;
}

static bool set_size(struct image_make *wish, const char *value)
{
    uint64_t bytes;
    bool ok = parse_size(value, 64 << 20, &bytes);
    if (ok) {
        wish->bytes = (size_t)bytes;
    }
    return ok;
}

static bool set_u32(const char *value, uint32_t max, uint32_t *to)
{
    uint64_t number;
    bool ok = parse_size(value, max, &number);
    if (ok) {
        *to = (uint32_t)number;
    }
    return ok;
}

static bool set_seed(struct image_make *wish, const char *value)
{
    return set_u32(value, UINT32_MAX, &wish->seed);
}

static bool set_block(struct image_make *wish, const char *value)
{
    return set_u32(value, 65536, &wish->block_bytes) && wish->block_bytes >= 512;
}

static bool set_trailer(struct image_make *wish, const char *value)
{
    return set_u32(value, 65536, &wish->trailer);
}

static bool set_flag(const char *value, bool *flag)
{
    *flag = strcmp(value, "1") == 0;
    return *flag || strcmp(value, "0") == 0;
}

static bool set_gzip(struct image_make *wish, const char *value)
{
    return set_flag(value, &wish->gzip);
}

static bool set_empty(struct image_make *wish, const char *value)
{
    return set_flag(value, &wish->empty);
}

static bool set_app(struct image_make *wish, const char *value)
{
    bool app = true;
    bool ok = set_flag(value, &app);
    wish->no_app = !app;
    return ok;
}

static bool set_hash(struct image_make *wish, const char *value)
{
    bool hash = true;
    bool ok = set_flag(value, &hash);
    wish->no_hash = !hash;
    return ok;
}

/* "esp32c3" is ESP32-C3. */
static bool same_chip(const char *a, const char *b)
{
    for (;; a++, b++) {
        a += *a == '-';
        b += *b == '-';
        if (tolower((unsigned char)*a) != tolower((unsigned char)*b)) {
            return false;
        }
        if (*a == '\0') {
            return true;
        }
    }
}

static bool set_chip(struct image_make *wish, const char *value)
{
    static const struct {
        enum chip chip;
        const char *text;
    } chips[] = {
#define X(id_name, id, id_text) { CHIP_##id_name, id_text },
        CHIP_LIST(X)
#undef X
    };
    for (size_t i = 0; i < COUNT_OF(chips); i++) {
        if (same_chip(value, chips[i].text)) {
            wish->chip = chips[i].chip;
            return true;
        }
    }
    return false;
}

static bool set_break(struct image_make *wish, const char *value)
{
    static const char *const breaks[] = { "none", "checksum", "digest", "truncate", "segments" };
    unsigned place;
    bool ok = find_word(value, breaks, COUNT_OF(breaks), &place);
    if (ok) {
        wish->broken = (enum image_make_break)place;
    }
    return ok;
}

static bool set_version(struct image_make *wish, const char *value)
{
    wish->version = value;
    return true;
}

static bool set_project(struct image_make *wish, const char *value)
{
    wish->project = value;
    return true;
}

static const struct {
    const char *key;
    bool (*set)(struct image_make *wish, const char *value);
} keys[] = {
    { "size=", set_size },       { "mode=", set_mode },       { "flash=", set_flash }, { "chip=", set_chip },
    { "version=", set_version }, { "project=", set_project }, { "seed=", set_seed },   { "block=", set_block },
    { "trailer=", set_trailer }, { "gzip=", set_gzip },       { "app=", set_app },     { "hash=", set_hash },
    { "break=", set_break },     { "empty=", set_empty },
};

static bool set_option(struct image_make *wish, const char *option)
{
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        size_t n = strlen(keys[i].key);
        if (strncmp(option, keys[i].key, n) == 0) {
            if (keys[i].set(wish, option + n)) {
                return true;
            }
            fprintf(stderr, "updraft-make-image: %s: not a possible value\n%s", option, usage);
            return false;
        }
    }
    fprintf(stderr, "updraft-make-image: %s: no such key\n%s", option, usage);
    return false;
}

static int write_image(const struct image_make *wish, const char *path)
{
    size_t n;
    uint8_t *bytes = image_make(wish, &n);
    FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(path, "wb");
    bool ok = file != NULL && fwrite(bytes, 1, n, file) == n;
    ok = file != NULL && (file == stdout ? fflush(file) : fclose(file)) == 0 && ok;
    free(bytes);
    if (!ok) {
        fprintf(stderr, "updraft-make-image: %s: %s\n", path, strerror(errno));
    }
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct image_make wish = { 0 };
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc < 3) {
        fputs(usage, stderr);
        return 2;
    }
    if (!set_kind(&wish, argv[1])) {
        fprintf(stderr, "updraft-make-image: %s: no such kind\n%s", argv[1], usage);
        return 2;
    }
    for (int i = 3; i < argc; i++) {
        if (!set_option(&wish, argv[i])) {
            return 2;
        }
    }
    if (wish.version != NULL && wish.kind != IMAGE_MAKE_ESP32 && wish.kind != IMAGE_MAKE_FACTORY) {
        fprintf(stderr, "updraft-make-image: version= is of esp32 images; the name of others' file says theirs\n");
        return 2;
    }
    return write_image(&wish, argv[2]);
}
