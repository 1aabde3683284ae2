/* What lies in the repository, over the API: the images that are served, the files that are not, and why. What makes it
 * hard: a file's name is foreign bytes, and may be none that JSON takes.
 */
#include "server/admin_parts.h"

#include "repo/scan.h"

#include <assert.h>
#include <string.h>

#define LIST_MAX 1000

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

/* Of a type, or, NULL, of all. */
static size_t count_rejected(const struct catalog *catalog, const char *type)
{
    size_t count = 0;
    for (size_t i = 0; i < catalog_rejection_count(catalog); i++) {
        count += type == NULL || strcmp(catalog_rejection_at(catalog, i)->type, type) == 0;
    }
    return count;
}

void admin_get_firmware(struct admin_call *call)
{
    const struct catalog *catalog = call->api->catalog;
    char type[HTTP_PARAMETER_MAX + 1] = "";
    uint64_t offset = 0, limit = LIST_MAX;
    bool of_type = false;
    size_t total = 0;
    const struct admin_parameter parameters[] = {
        { "type", ADMIN_TEXT, type, 0, &of_type },
        { "offset", ADMIN_NUMBER, &offset, SCAN_FILES_MAX, NULL },
        { "limit", ADMIN_NUMBER, &limit, LIST_MAX, NULL },
    };
    if (!admin_read_query(call, parameters, sizeof parameters / sizeof parameters[0])) {
        return;
    }
    json_t *images = json_array();
    for (size_t i = 0; i < catalog_image_count(catalog); i++) {
        const struct image *image = catalog_image_at(catalog, i);
        if (of_type && strcmp(image->type, type) != 0) {
            continue;
        }
        if (total >= offset && total - offset < limit) {
            json_t *json = admin_image_json(catalog, image);
            mark_kept(call->api, image, json);
            json_array_append_new(images, json);
        }
        total++;
    }
    admin_answer(call->answer, 200,
                 json_pack("{s:I, s:I, s:o, s:I}", "total", (json_int_t)total, "offset", (json_int_t)offset, "images",
                           images, "rejected", (json_int_t)count_rejected(catalog, of_type ? type : NULL)));
}

static json_t *rejection_json(const struct rejection *rejection)
{
    return json_pack("{s:o, s:s, s:s, s:o, s:o}", "file", admin_text(rejection->path), "type", rejection->type, "fault",
                     image_fault_word(rejection->verdict.fault), "detail", admin_text(rejection->verdict.detail),
                     "remedy", admin_text(rejection->verdict.remedy));
}

void admin_get_rejected(struct admin_call *call)
{
    const struct catalog *catalog = call->api->catalog;
    size_t total = catalog_rejection_count(catalog);
    if (!admin_read_query(call, NULL, 0)) {
        return;
    }
    json_t *files = json_array();
    for (size_t i = 0; i < total && i < LIST_MAX; i++) {
        json_array_append_new(files, rejection_json(catalog_rejection_at(catalog, i)));
    }
    admin_answer(call->answer, 200, json_pack("{s:I, s:o}", "total", (json_int_t)total, "files", files));
}
