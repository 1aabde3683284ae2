/* A watch over a real folder, with a loop that a test turns until what it waits for is there. */
#ifndef TESTS_UNIT_REPO_WATCH_FIXTURE_H
#define TESTS_UNIT_REPO_WATCH_FIXTURE_H

#include "base/log.h"
#include "repo/watch.h"
#include "tests/unit/repo/repo_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define PATIENCE_MS 30000
#define QUIET_MS    400 /* without a new catalog: every scan that was due is over */
#define HOUR_MS     3600000

struct world {
    struct folder folder; /* has repo/ and state/ */
    struct file_path root, cache_path;
    uv_loop_t loop;
    uv_timer_t tick;
    struct watch *watch;
    struct catalog *catalog; /* the newest; NULL = none yet */
    unsigned catalogs, firsts;
    enum watch_news news; /* which was the newest */
    uint64_t last_ms;     /* when the newest came */
    bool stopped;
};

static struct world world;

static inline uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static inline void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static inline void on_catalog(void *owner, struct catalog *catalog, enum watch_news news)
{
    assert_ptr_equal(owner, &world);
    assert_false(world.stopped);
    bool first = news == CATALOG_FIRST;
    assert_int_equal(first, world.catalogs == 0);
    world.news = news;
    if (world.catalog != NULL) {
        catalog_unref(world.catalog);
    }
    world.catalog = catalog;
    world.catalogs++;
    world.firsts += first;
    world.last_ms = now_ms();
}

static inline void on_stopped(void *owner)
{
    assert_ptr_equal(owner, &world);
    world.stopped = true;
}

static inline int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof world);
    log_configure(LOG_ERROR, LOG_LOGFMT);
    folder_make(&world.folder);
    world.root = in_folder(&world.folder, "repo");
    world.cache_path = in_folder(&world.folder, "state/digests");
    folder_make_parents(&world.folder, "repo/");
    folder_make_parents(&world.folder, "state/");
    uv_loop_init(&world.loop);
    uv_timer_init(&world.loop, &world.tick);
    uv_timer_start(&world.tick, on_tick, 5, 5);
    return 0;
}

static inline void watch_from_now(uint64_t rescan_ms)
{
    struct watch_config config = {
        .root = world.root.text, .cache_path = world.cache_path.text, .settle_ms = 20, .rescan_ms = rescan_ms
    };
    world.watch = watch_start(&world.loop, &config, on_catalog, &world);
}

typedef bool (*condition_fn)(const char *name);

static inline void run_within(uint64_t patience_ms, condition_fn holds, const char *name)
{
    uint64_t end_ms = now_ms() + patience_ms;
    while (!holds(name)) {
        uv_run(&world.loop, UV_RUN_ONCE);
        if (now_ms() > end_ms) {
            fail_msg("waited %u ms in vain for %s", (unsigned)patience_ms, name);
        }
    }
}

static inline void run_until(condition_fn holds, const char *name)
{
    run_within(PATIENCE_MS, holds, name);
}

static inline bool is_served(const char *path)
{
    return world.catalog != NULL && catalog_find_path(world.catalog, slice_of(path)) != NULL;
}

static inline bool is_gone(const char *path)
{
    return !is_served(path);
}

static inline bool is_quiet(const char *name)
{
    (void)name;
    return world.catalog != NULL && now_ms() > world.last_ms + QUIET_MS;
}

static inline bool has_stopped(const char *name)
{
    (void)name;
    return world.stopped;
}

static inline bool has_catalog(const char *name)
{
    (void)name;
    return world.catalog != NULL;
}

static inline void settle_down(void)
{
    run_until(is_quiet, "quiet");
}

static inline void stop(void)
{
    watch_stop(world.watch, on_stopped);
    run_until(has_stopped, "the stop");
}

static inline int tear_down(void **state)
{
    (void)state;
    if (!world.stopped) { /* the test failed */
        stop();
    }
    uv_close((uv_handle_t *)&world.tick, NULL);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    int error = uv_loop_close(&world.loop); /* no handle and no work may be left */
    if (world.catalog != NULL) {
        catalog_unref(world.catalog);
    }
    folder_remove(&world.folder, "");
    return error;
}

static inline struct file_path in_repo(const char *name)
{
    struct file_path path;
    snprintf(path.text, sizeof path.text, "repo/%s", name);
    return path;
}

static inline void put(const char *name, uint32_t seed)
{
    folder_put(&world.folder, in_repo(name).text, &(struct image_make){ .seed = seed });
}

static inline void drop(const char *name, uint32_t seed)
{
    folder_drop(&world.folder, in_repo(name).text, &(struct image_make){ .seed = seed });
}

#define WATCH_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
