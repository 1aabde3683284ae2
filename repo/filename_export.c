/* `<project>_<version>.ino.<type>.bin`, as the Arduino tools export a sketch.
 *
 * What makes it hard: project and version are both written with `_`, and nothing says where the one ends.
 */
#include "repo/filename_parts.h"

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static bool starts_a_version(struct slice text)
{
    size_t at = text.len > 0 && (text.at[0] == 'v' || text.at[0] == 'V') ? 1 : 0;
    return text.len > at && text.at[at] >= '0' && text.at[at] <= '9';
}

/* Where `<project>_<version>` splits: at the first `_` with nothing but a version behind it, so that
 * `esp_32_cam_1_0_0` gives 1_0_0. Failing that (`truc_1_0_0-blue`), at the last one that begins a version and
 * continues none. */
static bool split_project(struct slice text, size_t *underscore)
{
    bool found = false;
    size_t part = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] != '_') {
            continue;
        }
        struct slice rest = after(text, i + 1);
        struct slice previous = { text.at + part, i - part };
        struct version version;
        part = i + 1;
        if (i == 0 || !starts_a_version(rest) || filename_read_version(rest, &version) != NULL) {
            continue;
        }
        if (version_is_plain(rest)) {
            *underscore = i;
            return true;
        }
        if (!version_is_plain(previous)) {
            *underscore = i;
            found = true;
        }
    }
    return found;
}

/* The first `_` before something like a version, be it a good one or not. */
static bool find_version_start(struct slice text, size_t *underscore)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '_' && starts_a_version(after(text, i + 1))) {
            *underscore = i;
            return true;
        }
    }
    return false;
}

/* Refuses with a concrete `<project>_<version>.ino.<type>.bin` close to the name at hand. */
static enum filename_result refuse_export(const struct parts *parts, struct slice sketch, struct slice type,
                                          struct filename_refusal *refusal)
{
    size_t underscore;
    bool lacks_project = starts_a_version(sketch) || sketch.len == 0;
    const char *version = "";
    if (!starts_a_version(sketch) && !split_project(sketch, &underscore)) {
        version = "_1_0_0";
        if (find_version_start(sketch, &underscore)) {
            sketch = before(sketch, underscore);
        }
    }
    struct shown sketch_shown = filename_show(sketch);
    struct shown type_shown = filename_show(type_is_valid(type) ? type : slice_of("d1_mini"));
    REMEDY(refusal, "rename it to %s%s%s.ino.%s%s",
           !lacks_project    ? ""
           : sketch.len == 0 ? "sketch"
                             : "sketch_",
           sketch_shown.text, version, type_shown.text, extension(parts));
    return FILENAME_REFUSED;
}

static enum filename_result refuse_unversioned(const struct parts *parts, struct slice sketch, struct slice type,
                                               struct filename_refusal *refusal)
{
    struct version version;
    size_t underscore;
    const char *fault = NULL;
    if (find_version_start(sketch, &underscore)) {
        fault = filename_read_version(after(sketch, underscore + 1), &version);
    }
    DETAIL(refusal, "no version before .ino%s%s", fault != NULL ? ": " : "", fault != NULL ? fault : "");
    return refuse_export(parts, sketch, type, refusal);
}

/* Bootloaders, partition tables and merged images lie beside the sketch in Arduino's build folders. */
static bool is_build_part(struct slice type)
{
    static const char *const names[] = { "bootloader", "partitions", "merged" };
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        size_t n = strlen(names[i]);
        bool behind_a_type = type.len > n && slice_ends_with(type, names[i]) && type.at[type.len - n - 1] == '.';
        if (slice_is(type, names[i]) || behind_a_type) {
            return true;
        }
    }
    return false;
}

/* `.ino` with no type behind it, as arduino-cli exports: it must not silently become a label or a version. */
static enum filename_result refuse_untyped(const struct parts *parts, struct filename_refusal *refusal)
{
    struct slice sketch = parts->stem;
    cut_suffix(&sketch, ".ino");
    DETAIL(refusal, "no type between .ino and %s", extension(parts));
    return refuse_export(parts, sketch, parts->folder, refusal);
}

enum filename_result filename_read_export(const struct parts *parts, struct filename *name,
                                          struct filename_refusal *refusal)
{
    size_t ino;
    size_t underscore;
    if (slice_ends_with(parts->stem, ".ino") || !find_last(parts->stem, ".ino.", &ino)) {
        return refuse_untyped(parts, refusal);
    }
    struct slice sketch = before(parts->stem, ino);
    struct slice type = after(parts->stem, ino + strlen(".ino."));
    struct shown type_shown = filename_show(type);
    struct shown tidied_type = filename_tidied(type);
    if (is_build_part(type)) {
        DETAIL(refusal, "\"%s\" is a part of a build, not a device type", type_shown.text);
        return refuse_export(parts, sketch, (struct slice){ NULL, 0 }, refusal);
    }
    if (!type_is_valid(type)) {
        DETAIL(refusal, "\"%s\" is no type: letters, digits, . _ - alone, %d at most", type_shown.text, TYPE_TEXT_MAX);
        return refuse_export(parts, sketch, slice_of(tidied_type.text), refusal);
    }
    struct slice bare = after(sketch, slice_starts_with(sketch, "_") ? 1 : 0);
    if (starts_a_version(bare) && version_is_plain(bare)) {
        /* `2048_1_0_0`: version 1.0.0 of project 2048, or version 2048.1? */
        DETAIL(refusal, "no project before the version");
        return refuse_export(parts, bare, type, refusal);
    }
    if (!split_project(sketch, &underscore)) {
        return refuse_unversioned(parts, sketch, type, refusal);
    }
    if (underscore > PROJECT_TEXT_MAX) {
        DETAIL(refusal, "the project's name is %zu bytes long, %d are allowed", underscore, PROJECT_TEXT_MAX);
        REMEDY(refusal, "shorten the part before the version");
        return FILENAME_REFUSED;
    }
    memset(name, 0, sizeof *name);
    name->role = FILENAME_SKETCH;
    name->gzip = parts->gzip;
    slice_copy(type, name->type, sizeof name->type);
    slice_copy(before(sketch, underscore), name->project, sizeof name->project);
    (void)filename_read_version(after(sketch, underscore + 1), &name->version); /* split_project has read it */
    return FILENAME_OK;
}

bool filename_has_ino(const struct parts *parts)
{
    size_t at;
    return slice_ends_with(parts->stem, ".ino") || find_last(parts->stem, ".ino.", &at);
}
