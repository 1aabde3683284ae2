/* The index of MACs against a plain list: found is what is there, wherever it stands, however it came and went. */
#include "fleet/mac_index.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MACS_MAX 3000

static struct mac list[MACS_MAX];

static const struct mac *mac_at(const void *owner, uint32_t place)
{
    assert_ptr_equal(owner, list);
    assert_true(place < MACS_MAX);
    return &list[place];
}

static struct mac mac_of(unsigned i)
{
    return (struct mac){ { 0x5c, 0xcf, 0x7f, 0, (uint8_t)(i >> 8), (uint8_t)i } };
}

static uint32_t find(const struct mac_index *index, const struct mac *mac)
{
    return mac_index_find(index, mac, mac_at, list);
}

static void check(const struct mac_index *index, size_t count)
{
    assert_int_equal(index->count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(find(index, &list[i]), i);
    }
}

/* Else a device is not recognised, or taken for another. */
static void test_against_a_list(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        struct mac_index index = { .seed = mac_hash_seed_draw() };
        size_t count = 0;
        srand(seed);
        for (int step = 0; step < 6000; step++) {
            struct mac mac = mac_of((unsigned)rand() % MACS_MAX);
            uint32_t place = find(&index, &mac);
            uint32_t plain = 0;
            while (plain < count && !mac_equal(&list[plain], &mac)) {
                plain++;
            }
            assert_int_equal(place, plain < count ? plain : MAC_INDEX_NONE);
            if (place == MAC_INDEX_NONE && rand() % 4 > 0) {
                list[count] = mac;
                mac_index_add(&index, &mac, (uint32_t)count++);
            } else if (place != MAC_INDEX_NONE) { /* the last takes its place */
                mac_index_remove(&index, &mac, place);
                if (place != --count) {
                    mac_index_remove(&index, &list[count], (uint32_t)count);
                    mac_index_add(&index, &list[count], place);
                    list[place] = list[count];
                }
            }
        }
        check(&index, count);
        mac_index_clear(&index);
        assert_int_equal(find(&index, &list[0]), MAC_INDEX_NONE);
    }
}

/* Else one removed in the middle of a run hides those behind it: all meet in one bucket, and around the end. */
static void test_all_in_one_run(void **state)
{
    (void)state;
    struct mac_index index = { .seed = { { 0xffffffff, 0, 0 } } }; /* one hash for all */
    for (uint32_t i = 0; i < 30; i++) {
        list[i] = mac_of(i);
        mac_index_add(&index, &list[i], i);
    }
    check(&index, 30);
    for (uint32_t gone = 0; gone < 29; gone++) {
        mac_index_remove(&index, &list[gone], gone);
        assert_int_equal(find(&index, &list[gone]), MAC_INDEX_NONE);
        for (uint32_t i = gone + 1; i < 30; i++) {
            assert_int_equal(find(&index, &list[i]), i);
        }
    }
    mac_index_clear(&index);
}

/* Else whoever chooses MACs chooses who is slow; or the MACs of one maker, which count up, meet. */
static void test_runs_are_short(void **state)
{
    (void)state;
    struct mac_index index = { .seed = mac_hash_seed_draw() };
    size_t longest = 0, run = 0;
    for (uint32_t i = 0; i < MACS_MAX; i++) {
        list[i] = mac_of(i);
        mac_index_add(&index, &list[i], i);
    }
    for (size_t i = 0; i < 2 * index.size; i++) {
        run = index.slots[i % index.size] != 0 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    assert_in_range(longest, 2, 60); /* 3,000 of 8,192: some twenty */
    mac_index_clear(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_list),
        cmocka_unit_test(test_all_in_one_run),
        cmocka_unit_test(test_runs_are_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
