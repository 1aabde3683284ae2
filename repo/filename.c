/* What a path in the repository promises, from its name alone.
 *
 * What makes it hard: the conventions overlap, since versions, projects and types are all written with `_`
 * and `.`. A name that can be read in two ways must not be served as the wrong one, so it is refused with a
 * name that would do.
 */
#include "repo/filename_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
#define FLASH_MIB_MAX   256

static struct parts take_apart(struct slice path)
{
    struct parts parts = { .path = path, .name = path, .folder = { "", 0 }, .at_top = true };
    size_t slash;
    if (find_last(path, "/", &slash)) {
        parts.folder = before(path, slash);
        parts.name = after(path, slash + 1);
        parts.at_top = false;
    }
    parts.stem = parts.name;
    parts.gzip = cut_suffix(&parts.stem, ".gz");
    parts.is_bin = cut_suffix(&parts.stem, ".bin");
    return parts;
}

struct shown filename_show(struct slice bytes)
{
    struct shown shown;
    text_escape(bytes, shown.text, sizeof shown.text);
    return shown;
}

void filename_say(char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(to, size, format, args);
    va_end(args);
}

struct shown filename_tidied(struct slice name)
{
    struct shown shown = { "name" };
    size_t n = name.len < TYPE_TEXT_MAX ? name.len : TYPE_TEXT_MAX;
    for (size_t i = 0; i < n; i++) {
        shown.text[i] = char_is_name(name.at[i]) && (i > 0 || name.at[i] != '.') ? name.at[i] : '_';
        shown.text[i + 1] = '\0';
    }
    return shown;
}

bool filename_version_takes(char c)
{
    return char_is_name(c) || (c != '\0' && strchr("+~()", c) != NULL);
}

const char *filename_read_version(struct slice text, struct version *version)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!filename_version_takes(text.at[i])) {
            return "a version has letters, digits and . _ - + ~ ( ) alone";
        }
    }
    switch (version_parse(text, version)) {
    case STATUS_OK:
        return NULL;
    case STATUS_TOO_LONG:
        return "a version has 64 characters and 24 parts at most";
    default:
        return "a version needs a digit, such as 1_0_0";
    }
}

/* `<version>_<N>M`, the part behind `spiffs_` or `littlefs_`. Where it returns false, for want of a size,
 * *version is what may be meant as the version. */
static bool read_flash_size(struct slice text, struct slice *version, uint64_t *flash_mib)
{
    struct slice size = text;
    size_t underscore;
    *version = before(text, 0);
    if (find_last(text, "_", &underscore)) {
        *version = before(text, underscore);
        size = after(text, underscore + 1);
    }
    if (size.len > 0 && size.at[size.len - 1] >= '0' && size.at[size.len - 1] <= '9') {
        *version = text; /* the last part is a number of the version */
        return false;
    }
    return cut_suffix(&size, "M") && number_parse(size, FLASH_MIB_MAX, flash_mib) && *flash_mib > 0;
}

static enum filename_result read_shared_fs(const struct parts *parts, struct filename *name,
                                           struct filename_refusal *refusal)
{
    const char *prefix = slice_starts_with(parts->stem, "spiffs_") ? "spiffs_" : "littlefs_";
    struct slice rest = after(parts->stem, strlen(prefix));
    struct slice version_text;
    struct version version;
    uint64_t flash_mib = 4;
    bool sized = read_flash_size(rest, &version_text, &flash_mib);
    const char *fault = filename_read_version(version_text, &version);
    if (!sized || fault != NULL) {
        struct shown shown = filename_show(fault == NULL ? version_text : slice_of("1_0_0"));
        DETAIL(refusal, "%s", fault != NULL ? fault : "no flash size such as _4M at the end");
        REMEDY(refusal, "rename it to %s%s_%uM%s: version, and flash size in MiB", prefix, shown.text,
               sized ? (unsigned)flash_mib : 4, extension(parts));
        return FILENAME_REFUSED;
    }
    memset(name, 0, sizeof *name);
    name->role = FILENAME_SHARED_FS;
    name->gzip = parts->gzip;
    name->flash_mib = (uint32_t)flash_mib;
    name->version = version;
    return FILENAME_OK;
}

static bool has_fs_prefix(const struct parts *parts)
{
    return slice_starts_with(parts->stem, "spiffs_") || slice_starts_with(parts->stem, "littlefs_");
}

static enum filename_result read_label(const struct parts *parts, struct filename *name,
                                       struct filename_refusal *refusal)
{
    if (!type_is_valid(parts->stem)) {
        struct shown shown = filename_show(parts->stem);
        struct shown proposed = filename_tidied(parts->stem);
        DETAIL(refusal, "\"%s\" is no label: letters, digits, . _ - alone, %d at most", shown.text, LABEL_TEXT_MAX);
        REMEDY(refusal, "rename it to %s%s", proposed.text, extension(parts));
        return FILENAME_REFUSED;
    }
    memset(name, 0, sizeof *name);
    name->role = FILENAME_LABEL;
    name->gzip = parts->gzip;
    slice_copy(parts->stem, name->label, sizeof name->label);
    return FILENAME_OK;
}

static bool is_at_top(const struct parts *parts)
{
    return parts->at_top;
}

/* What the part before `.bin` in a type folder may end in; a name that begins with it lacks its version. */
static const struct {
    const char *suffix;
    enum filename_role role;
} endings[] = {
    { ".fs", FILENAME_FS },
    { ".user1", FILENAME_USER1 },
    { ".user2", FILENAME_USER2 },
    { "", FILENAME_SKETCH },
};

/* `user1.bin`, `user2.4096.new.6.bin` as the SDK's make writes them: not version "user1". */
static bool lacks_version(struct slice stem, size_t *row)
{
    for (size_t i = 0; i < COUNT_OF(endings) - 1; i++) {
        const char *word = endings[i].suffix + 1;
        size_t n = strlen(word);
        if (slice_starts_with(stem, word) && (stem.len == n || stem.at[n] == '.')) {
            *row = i;
            return true;
        }
    }
    return false;
}

static enum filename_result refuse_folder(const struct parts *parts, struct filename_refusal *refusal)
{
    struct shown folder = filename_show(parts->folder);
    struct shown proposed = filename_tidied(parts->folder);
    DETAIL(refusal, "folder \"%s\" is no type: letters, digits, . _ - alone, %d at most", folder.text, TYPE_TEXT_MAX);
    REMEDY(refusal, "rename the folder to %s", proposed.text);
    return FILENAME_REFUSED;
}

static enum filename_result read_versioned(const struct parts *parts, struct filename *name,
                                           struct filename_refusal *refusal)
{
    if (!type_is_valid(parts->folder)) {
        return refuse_folder(parts, refusal);
    }
    struct slice text = parts->stem;
    size_t row = 0;
    while (!cut_suffix(&text, endings[row].suffix)) {
        row++; /* ends at the empty suffix */
    }
    struct version version;
    const char *fault = lacks_version(parts->stem, &row) ? "it begins with what follows a version"
                                                         : filename_read_version(text, &version);
    if (fault != NULL) {
        struct shown shown = filename_show(text);
        struct shown folder = filename_show(parts->folder);
        DETAIL(refusal, "\"%s\" is no version: %s", shown.text, fault);
        REMEDY(refusal, "rename it to %s/1_0_0%s%s", folder.text, endings[row].suffix, extension(parts));
        return FILENAME_REFUSED;
    }
    memset(name, 0, sizeof *name);
    name->role = endings[row].role;
    name->gzip = parts->gzip;
    name->version = version;
    slice_copy(parts->folder, name->type, sizeof name->type);
    return FILENAME_OK;
}

static bool is_in_type_folder(const struct parts *parts)
{
    return !parts->at_top && memchr(parts->folder.at, '/', parts->folder.len) == NULL;
}

static enum filename_result refuse_depth(const struct parts *parts, struct filename *name,
                                         struct filename_refusal *refusal)
{
    size_t slash = 0;
    (void)name;
    (void)find_last(parts->folder, "/", &slash);
    struct slice last = after(parts->folder, slash + 1);
    struct shown type = filename_show(type_is_valid(last) ? last : slice_of("<type>"));
    struct shown file = filename_show(parts->name);
    DETAIL(refusal, "more than one folder deep, so its type is not said");
    REMEDY(refusal, "move it to %s/%s", type.text, file.text);
    return FILENAME_REFUSED;
}

static bool is_anything(const struct parts *parts)
{
    (void)parts;
    return true;
}

static bool has_unclean_bytes(const struct parts *parts)
{
    return !text_is_clean_utf8(parts->path);
}

static enum filename_result refuse_bytes(const struct parts *parts, struct filename *name,
                                         struct filename_refusal *refusal)
{
    (void)name;
    struct shown shown = filename_show(parts->path);
    DETAIL(refusal, "control characters or bytes that are no UTF-8 in \"%s\"", shown.text);
    REMEDY(refusal, "rename it with letters, digits, . _ and - alone");
    return FILENAME_REFUSED;
}

/* A sketch's name, a type and a label have none; one would shift what the other parts mean. */
static bool has_blank(const struct parts *parts)
{
    return memchr(parts->path.at, ' ', parts->path.len) != NULL;
}

static enum filename_result refuse_blank(const struct parts *parts, struct filename *name,
                                         struct filename_refusal *refusal)
{
    (void)name;
    struct shown shown = filename_show(parts->path);
    DETAIL(refusal, "a blank in \"%s\"", shown.text);
    REMEDY(refusal, "rename it with _ or - instead of the blank");
    return FILENAME_REFUSED;
}

/* `.BIN`, as some systems write it. */
static bool has_capital_ending(const struct parts *parts)
{
    static const char *const wanted[] = { ".bin", ".bin.gz" };
    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        size_t n = strlen(wanted[i]);
        if (parts->name.len > n && slice_is_nocase(after(parts->name, parts->name.len - n), wanted[i])) {
            return !parts->is_bin;
        }
    }
    return false;
}

static enum filename_result refuse_capital_ending(const struct parts *parts, struct filename *name,
                                                  struct filename_refusal *refusal)
{
    (void)parts;
    (void)name;
    DETAIL(refusal, "the ending is written in capitals");
    REMEDY(refusal, "write the ending .bin or .bin.gz in small letters");
    return FILENAME_REFUSED;
}

/* Hidden, or in a hidden folder: editors, synchronisers and version control keep their own there. */
static bool is_hidden(const struct parts *parts)
{
    for (size_t i = 0; i < parts->path.len; i++) {
        if (parts->path.at[i] == '.' && (i == 0 || parts->path.at[i - 1] == '/')) {
            return true;
        }
    }
    return false;
}

/* As `updraft sign` writes it beside the image: it belongs into the image's place. */
static bool is_signed_copy(const struct parts *parts)
{
    return slice_ends_with(parts->name, ".bin.signed") || slice_ends_with(parts->name, ".bin.gz.signed");
}

static enum filename_result refuse_signed_copy(const struct parts *parts, struct filename *name,
                                               struct filename_refusal *refusal)
{
    (void)parts;
    (void)name;
    DETAIL(refusal, "no image's name ends in .signed");
    REMEDY(refusal, "put it in the place of the image that was signed, under that name, without .signed");
    return FILENAME_REFUSED;
}

enum filename_result filename_parse(struct slice path, struct filename *name, struct filename_refusal *refusal)
{
    /* The first that applies. The names that say all by themselves come before what the folder says. */
    static const struct {
        bool (*applies)(const struct parts *parts);
        enum filename_result (*read)(const struct parts *parts, struct filename *name,
                                     struct filename_refusal *refusal);
    } conventions[] = {
        { has_unclean_bytes, refuse_bytes },
        { is_signed_copy, refuse_signed_copy },
        { has_capital_ending, refuse_capital_ending },
        { has_blank, refuse_blank },
        { filename_has_ino, filename_read_export },
        { has_fs_prefix, read_shared_fs },
        { is_at_top, read_label },
        { is_in_type_folder, read_versioned },
        { is_anything, refuse_depth },
    };
    struct parts parts = take_apart(path);
    if ((!parts.is_bin && !has_capital_ending(&parts) && !is_signed_copy(&parts)) || is_hidden(&parts)) {
        return FILENAME_IGNORED;
    }
    size_t row = 0;
    while (!conventions[row].applies(&parts)) {
        row++;
    }
    return conventions[row].read(&parts, name, refusal);
}
