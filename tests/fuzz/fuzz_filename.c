/* Any bytes as a path in the repository: what is accepted is complete and printable, what is refused says so
 * in text that can be printed anywhere. */
#include "repo/filename.h"

#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *text, size_t size)
{
    assert(memchr(text, '\0', size) != NULL && text[0] != '\0');
    for (const char *c = text; *c != '\0'; c++) {
        assert(*c >= 0x20 && *c < 0x7f);
    }
}

static void check_accepted(const struct filename *name, struct slice path)
{
    bool has_type = name->role != FILENAME_LABEL && name->role != FILENAME_SHARED_FS;
    bool is_label = name->role == FILENAME_LABEL;
    assert(memchr(name->type, '\0', sizeof name->type) != NULL);
    assert(memchr(name->label, '\0', sizeof name->label) != NULL);
    assert(memchr(name->project, '\0', sizeof name->project) != NULL);
    assert(memchr(name->version.text, '\0', sizeof name->version.text) != NULL);

    assert(has_type ? type_is_valid(slice_of(name->type)) : name->type[0] == '\0');
    assert(is_label ? type_is_valid(slice_of(name->label)) : name->label[0] == '\0');
    assert((name->role == FILENAME_SHARED_FS) == (name->flash_mib > 0));
    assert(name->project[0] == '\0' || name->role == FILENAME_SKETCH);
    assert(text_is_clean_utf8(slice_of(name->project)));
    assert(name->gzip == slice_ends_with(path, ".bin.gz"));
    assert(is_label == (name->version.text[0] == '\0'));
    if (!is_label) {
        struct version again;
        check_printable(name->version.text, sizeof name->version.text);
        assert(version_parse(slice_of(name->version.text), &again) == STATUS_OK);
        assert(version_compare(&again, &name->version) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct filename name;
    struct filename_refusal refusal;
    struct slice path = { (const char *)data, size };
    memset(&name, 0x5a, sizeof name);
    memset(&refusal, 0x5a, sizeof refusal);
    switch (filename_parse(path, &name, &refusal)) {
    case FILENAME_OK:
        check_accepted(&name, path);
        break;
    case FILENAME_REFUSED:
        check_printable(refusal.detail, sizeof refusal.detail);
        check_printable(refusal.remedy, sizeof refusal.remedy);
        break;
    case FILENAME_IGNORED:
        assert(name.type[0] == 0x5a && refusal.detail[0] == 0x5a); /* both untouched */
        break;
    }
    return 0;
}
