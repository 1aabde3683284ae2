/* If it failed: a long answer's memory would stay the server's for ever, once in each thread. */
#include "base/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define BLOCKS      16384
#define BLOCK_BYTES 1024
#define HELD_EACH   64 /* of so many blocks one is held: the pages between are free, and not at the heap's end */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define HEAP_IS_GLIBCS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HEAP_IS_GLIBCS 0
#endif
#endif
#ifndef HEAP_IS_GLIBCS
#define HEAP_IS_GLIBCS 1
#endif

static char *blocks[BLOCKS];

static size_t resident_bytes(void)
{
    unsigned long size, resident;
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* 16 MiB taken and mostly freed again. */
static void make_holes(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, BLOCK_BYTES);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % HELD_EACH != 0) {
            free(blocks[i]);
        }
    }
}

static void free_rest(void)
{
    for (size_t i = 0; i < BLOCKS; i += HELD_EACH) {
        assert_int_equal(blocks[i][BLOCK_BYTES - 1], 1);
        free(blocks[i]);
    }
}

static void test_what_lies_free_between_is_given_back(void **state)
{
    (void)state;
    if (!HEAP_IS_GLIBCS) {
        skip();
    }
    size_t before = resident_bytes();
    make_holes();
    assert_true(resident_bytes() > before + ((size_t)12 << 20));
    heap_give_back();
    assert_true(resident_bytes() < before + ((size_t)4 << 20));
    free_rest();
}

static void test_ticks_by_a_worker(void **state)
{
    uv_loop_t loop;
    struct heap_trim trim = { .under_way = false };
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    trim.last_ms = uv_now(&loop) - HEAP_TRIM_EVERY_MS + 10000;
    heap_trim_tick(&trim, &loop);
    assert_false(trim.under_way); /* not yet */
    trim.last_ms = uv_now(&loop) - HEAP_TRIM_EVERY_MS;
    size_t before = resident_bytes();
    make_holes();
    heap_trim_tick(&trim, &loop);
    assert_true(trim.under_way);
    heap_trim_tick(&trim, &loop); /* once is enough */
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_false(trim.under_way);
    assert_int_equal(trim.last_ms <= uv_now(&loop), 1);
    assert_true(!HEAP_IS_GLIBCS || resident_bytes() < before + ((size_t)4 << 20));
    free_rest();
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_lies_free_between_is_given_back),
        cmocka_unit_test(test_ticks_by_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
