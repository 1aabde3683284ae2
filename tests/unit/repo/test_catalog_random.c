/* Of any set of images the best is offered, as whoever looks at every file finds it. */
#include "tests/unit/repo/catalog_fixture.h"

struct dice {
    uint64_t state;
};

static unsigned roll(struct dice *dice, unsigned sides)
{
    dice->state ^= dice->state << 13;
    dice->state ^= dice->state >> 7;
    dice->state ^= dice->state << 17;
    return (unsigned)(dice->state % sides);
}

/* Some are the same version in another spelling. */
static const char *const versions[] = { "0.9",   "0.10",   "0_10_0", "1.0-beta", "1.0", "v1.0", "1.0.0", "1.0.1",
                                        "1_0_1", "1.1rc1", "1.1",    "2",        "2.0", "2.0a", "10.0",  "9.99.99" };

#define ROUND_IMAGES_MAX 40

struct round {
    char paths[ROUND_IMAGES_MAX][96];
    struct filename names[ROUND_IMAGES_MAX];
    size_t count;
};

static void roll_path(struct dice *dice, char *path, size_t size)
{
    const char *version = versions[roll(dice, COUNT_OF(versions))];
    const char *gzip = roll(dice, 3) == 0 ? ".gz" : "";
    unsigned type = 1 + roll(dice, 2);
    switch (roll(dice, 4)) {
    case 0:
        snprintf(path, size, "%c/p_%s.ino.d%u.bin%s", 'a' + (char)roll(dice, 3), version, type, gzip);
        break;
    case 1:
        snprintf(path, size, "d%u/%s.fs.bin%s", type, version, gzip);
        break;
    case 2:
        snprintf(path, size, "%s_%s_%uM.bin%s", roll(dice, 2) == 0 ? "spiffs" : "littlefs", version,
                 1 + 3 * roll(dice, 2), gzip);
        break;
    default:
        snprintf(path, size, "d%u/%s.bin%s", type, version, gzip);
    }
}

static bool has_path(const struct round *round, const char *path)
{
    for (size_t i = 0; i < round->count; i++) {
        if (strcmp(round->paths[i], path) == 0) {
            return true;
        }
    }
    return false;
}

static struct catalog *roll_catalog(struct dice *dice, struct round *round)
{
    struct catalog *catalog = catalog_new();
    unsigned tries = roll(dice, ROUND_IMAGES_MAX);
    round->count = 0;
    for (unsigned i = 0; i < tries; i++) {
        char *path = round->paths[round->count];
        roll_path(dice, path, sizeof round->paths[0]);
        if (!has_path(round, path)) {
            add(catalog, path);
            round->names[round->count++] = name_of(path);
        }
    }
    return adopt(catalog);
}

/* The brute force: looks at every file, knows neither order nor runs. Of one claim the first path counts. */
struct best {
    size_t at[2]; /* by form, plain and gzip */
    bool is_there[2];
    const struct version *version; /* NULL = none */
};

static bool may_serve(const struct filename *name, enum filename_role role, const char *type)
{
    return name->role == role && (role == FILENAME_SHARED_FS ? name->flash_mib == 4 : strcmp(name->type, type) == 0);
}

static struct best find_best(const struct round *round, enum filename_role role, const char *type)
{
    struct best best = { .version = NULL };
    for (size_t i = 0; i < round->count; i++) {
        const struct filename *name = &round->names[i];
        if (may_serve(name, role, type) &&
            (best.version == NULL || version_compare(&name->version, best.version) > 0)) {
            best.version = &name->version;
        }
    }
    for (size_t i = 0; i < round->count; i++) {
        const struct filename *name = &round->names[i];
        if (may_serve(name, role, type) && version_compare(&name->version, best.version) == 0 &&
            (!best.is_there[name->gzip] || strcmp(round->paths[i], round->paths[best.at[name->gzip]]) < 0)) {
            best.is_there[name->gzip] = true;
            best.at[name->gzip] = i;
        }
    }
    return best;
}

static struct best find_best_fs(const struct round *round, const char *type)
{
    struct best own = find_best(round, FILENAME_FS, type);
    struct best shared = find_best(round, FILENAME_SHARED_FS, type);
    bool take_shared =
        own.version == NULL || (shared.version != NULL && version_compare(shared.version, own.version) > 0);
    return take_shared ? shared : own;
}

static bool type_is_there(const struct round *round, const char *type)
{
    for (size_t i = 0; i < round->count; i++) {
        if (strcmp(round->names[i].type, type) == 0) {
            return true;
        }
    }
    return false;
}

static void check_best(const struct catalog *catalog, const struct round *round, const char *type, enum offer_kind kind,
                       uint64_t seed)
{
    struct catalog_query query = { .type = slice_of(type), .kind = kind, .flash_bytes = 4 * MIB };
    struct best best = kind == OFFER_FS ? find_best_fs(round, type) : find_best(round, FILENAME_SKETCH, type);
    if (!type_is_there(round, type)) {
        best = (struct best){ .version = NULL }; /* a type that nobody has heard of gets nothing */
    }
    const char *plain = best.is_there[0] ? round->paths[best.at[0]] : "";
    const char *gzip = best.is_there[1] ? round->paths[best.at[1]] : "";
    struct offer offer;
    enum reason missing;
    catalog_offer(catalog, &query, &offer, &missing);
    const struct build *any = offer.plain != NULL ? offer.plain : offer.gzip;
    if (best.version == NULL && any != NULL && any->flash_mib == 1 && type_is_there(round, type)) {
        return; /* the one of a wrong size that a refusal names */
    }
    if (strcmp(path_of(offer.plain), plain) != 0 || strcmp(path_of(offer.gzip), gzip) != 0) {
        fail_msg("seed %llu, %s: offered \"%s\" and \"%s\" instead of \"%s\" and \"%s\"", (unsigned long long)seed,
                 type, path_of(offer.plain), path_of(offer.gzip), plain, gzip);
    }
}

static void test_offer_is_the_maximum(void **state)
{
    (void)state;
    static struct round round;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct dice dice = { seed * 0x9e3779b97f4a7c15u };
        struct catalog *catalog = roll_catalog(&dice, &round);
        assert_int_equal(catalog_image_count(catalog) + catalog_rejection_count(catalog), round.count);
        for (int i = 0; i < 4; i++) {
            check_best(catalog, &round, i % 2 == 0 ? "d1" : "d2", i < 2 ? OFFER_SKETCH : OFFER_FS, seed);
        }
        catalog_unref(catalog);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offer_is_the_maximum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
