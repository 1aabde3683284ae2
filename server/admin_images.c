/* What lies in the repository, over the API: the images that are served, the files that are not, and why. What makes it
 * hard: a file's name is foreign bytes, and may be none that JSON takes.
 */
#include "server/admin_list.h"

#include "repo/scan.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *const admin_kinds[] = {
    [FILENAME_SKETCH] = "sketch", [FILENAME_SHARED_FS] = "shared-fs", [FILENAME_FS] = "fs",
    [FILENAME_USER1] = "user1",   [FILENAME_USER2] = "user2",         [FILENAME_LABEL] = "label"
};

/* What a device of the type would be offered; labels and slots by their own rules, slots by version alone. */
static bool is_newest(const struct catalog *catalog, const struct image *image)
{
    struct offer offer = { NULL, NULL };
    struct image *slots[2];
    enum reason missing;
    struct catalog_query query = { .type = slice_of(image->type),
                                   .kind = image->role == FILENAME_FS ? OFFER_FS : OFFER_SKETCH };
    switch (image->role) {
    case FILENAME_SKETCH:
    case FILENAME_FS:
        catalog_offer(catalog, &query, &offer, &missing);
        return offer.plain == &image->build || offer.gzip == &image->build;
    case FILENAME_USER1:
    case FILENAME_USER2:
        return catalog_slots(catalog, query.type, NULL, slots, &missing) && (slots[0] == image || slots[1] == image);
    default:
        return false;
    }
}

json_t *admin_image_json(const struct catalog *catalog, const struct image *image)
{
    const struct build *build = &image->build;
    const struct image_facts *facts = &build->facts;
    bool is_fs = facts->kind == IMAGE_LITTLEFS || facts->kind == IMAGE_SPIFFS;
    json_t *json =
        json_pack("{s:o, s:s, s:s, s:s, s:s, s:b, s:s, s:s}", "file", admin_text(image->path), "type", image->type,
                  "version", build->version.text, "label", build->label, "kind", admin_kinds[image->role], "gzip",
                  facts->gzip, "chip", is_fs ? "" : chip_text(facts->chip), "flash_mode",
                  facts->flash_mode < IMAGE_FLASH_MODES ? flash_mode_text(facts->flash_mode) : "");
    assert(json != NULL);
    json_object_set_new(json, "flash_bytes", json_integer((json_int_t)facts->flash_bytes));
    json_object_set_new(json, "flash_mib", json_integer(build->flash_mib));
    json_object_set_new(json, "bytes", json_integer((json_int_t)facts->file_bytes));
    json_object_set_new(json, "image_bytes", json_integer((json_int_t)facts->image_bytes));
    json_object_set_new(json, "md5", admin_hex(facts->md5, 16));
    json_object_set_new(json, "sha256", admin_hex(facts->sha256, 32));
    json_object_set_new(json, "project", admin_text(image->project));
    json_object_set_new(json, "app_version", admin_text(facts->app_version));
    json_object_set_new(json, "app_project", admin_text(facts->app_project));
    json_object_set_new(json, "newest", json_boolean(is_newest(catalog, image)));
    return json;
}

/* Marks what a type is kept on, and the newer one that it does not get therefore. */
static void mark_kept(const struct admin_api *api, const struct image *image, json_t *json)
{
    struct admin_keeping keeping;
    bool is_fs = image->role == FILENAME_FS || image->role == FILENAME_SHARED_FS;
    const struct rollout *rollout = rollouts_of_type(api->fleet->rollouts, slice_of(image->type), is_fs);
    while (rollout != NULL && !admin_keeps(api, rollout, &keeping)) {
        rollout = rollout_older_of_type(rollout);
    }
    bool is_kept = rollout != NULL && (&image->build == keeping.on || json_is_true(json_object_get(json, "newest")));
    if (is_kept) {
        json_object_set_new(json, "kept_by", json_string(rollout->id));
    }
}

/* Of one catalog, whatever comes meanwhile. */
struct file_list {
    struct admin_list list;
    struct catalog *catalog; /* counted */
    char type[HTTP_PARAMETER_MAX + 1];
    bool of_type;
    size_t next, next_rejection, rejected;
};

static bool is_meant(const struct file_list *files, const char *type)
{
    return !files->of_type || strcmp(type, files->type) == 0;
}

/* At the images, then at what is not served, to count it. */
static enum admin_list_look look_at_image(struct admin_list *list)
{
    struct file_list *files = (struct file_list *)list;
    if (files->next < catalog_image_count(files->catalog)) {
        bool counts = is_meant(files, catalog_image_at(files->catalog, files->next++)->type);
        return counts ? ADMIN_LIST_COUNTS : ADMIN_LIST_OTHER;
    }
    if (files->next_rejection < catalog_rejection_count(files->catalog)) {
        files->rejected += is_meant(files, catalog_rejection_at(files->catalog, files->next_rejection++)->type);
        return ADMIN_LIST_OTHER;
    }
    return ADMIN_LIST_END;
}

static json_t *show_image(struct admin_list *list)
{
    const struct file_list *files = (const struct file_list *)list;
    const struct image *image = catalog_image_at(files->catalog, files->next - 1);
    json_t *json = admin_image_json(files->catalog, image);
    mark_kept(list->api, image, json);
    return json;
}

static json_t *end_images(struct admin_list *list)
{
    struct file_list *files = (struct file_list *)list;
    catalog_unref(files->catalog);
    return json_pack("{s:I, s:I, s:I}", "total", (json_int_t)list->matched, "offset", (json_int_t)list->offset,
                     "rejected", (json_int_t)files->rejected);
}

static struct file_list *file_list_new(struct admin_call *call, const struct admin_list_kind *kind)
{
    struct file_list *files = calloc(1, sizeof *files);
    assert(files != NULL);
    files->list = (struct admin_list){ .kind = kind, .limit = ADMIN_LIST_MAX };
    files->catalog = call->api->catalog;
    catalog_ref(files->catalog);
    return files;
}

void admin_get_firmware(struct admin_call *call)
{
    static const struct admin_list_kind kind = { "images", look_at_image, show_image, end_images };
    struct file_list *files = file_list_new(call, &kind);
    const struct admin_parameter parameters[] = {
        { "type", ADMIN_TEXT, files->type, 0, &files->of_type },
        { "offset", ADMIN_NUMBER, &files->list.offset, SCAN_FILES_MAX, NULL },
        { "limit", ADMIN_NUMBER, &files->list.limit, ADMIN_LIST_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        catalog_unref(files->catalog);
        free(files);
        return;
    }
    admin_list_answer(call, &files->list);
}

static enum admin_list_look look_at_rejection(struct admin_list *list)
{
    struct file_list *files = (struct file_list *)list;
    return files->next++ < catalog_rejection_count(files->catalog) ? ADMIN_LIST_COUNTS : ADMIN_LIST_END;
}

static json_t *show_rejection(struct admin_list *list)
{
    const struct file_list *files = (const struct file_list *)list;
    const struct rejection *rejection = catalog_rejection_at(files->catalog, files->next - 1);
    return json_pack("{s:o, s:s, s:s, s:o, s:o}", "file", admin_text(rejection->path), "type", rejection->type, "fault",
                     image_fault_word(rejection->verdict.fault), "detail", admin_text(rejection->verdict.detail),
                     "remedy", admin_text(rejection->verdict.remedy));
}

static json_t *end_rejections(struct admin_list *list)
{
    struct file_list *files = (struct file_list *)list;
    catalog_unref(files->catalog);
    return json_pack("{s:I}", "total", (json_int_t)list->matched);
}

void admin_get_rejected(struct admin_call *call)
{
    static const struct admin_list_kind kind = { "files", look_at_rejection, show_rejection, end_rejections };
    admin_list_answer(call, &file_list_new(call, &kind)->list);
}
