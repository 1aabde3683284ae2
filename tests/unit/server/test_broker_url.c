/* A broker's address taken apart. What makes it hard: passwords hold anything, also what else separates, and no
 * complaint may show one.
 */
#include "server/broker_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const struct {
    const char *text;
    bool tls;
    unsigned port;
    const char *host, *user, *password;
    const char *printed;
} good[] = {
    { "mqtt://broker", false, 1883, "broker", "", "", "mqtt://broker:1883" },
    { "mqtts://broker", true, 8883, "broker", "", "", "mqtts://broker:8883" },
    { "mqtt://broker:1", false, 1, "broker", "", "", "mqtt://broker:1" },
    { "mqtts://broker:65535/", true, 65535, "broker", "", "", "mqtts://broker:65535" },
    { "mqtt://192.0.2.7:1884", false, 1884, "192.0.2.7", "", "", "mqtt://192.0.2.7:1884" },
    { "mqtt://[2001:db8::7]", false, 1883, "2001:db8::7", "", "", "mqtt://[2001:db8::7]:1883" },
    { "mqtts://u@[::1]:7", true, 7, "::1", "u", "", "mqtts://[::1]:7" },
    { "mqtt://ann@broker", false, 1883, "broker", "ann", "", "mqtt://broker:1883" },
    { "mqtt://ann:@broker", false, 1883, "broker", "ann", "", "mqtt://broker:1883" },
    { "mqtt://ann:secret@broker:7", false, 7, "broker", "ann", "secret", "mqtt://broker:7" },
    { "mqtt://ann:a@b:c/d?e#f@broker", false, 1883, "broker", "ann", "a@b:c/d?e#f", "mqtt://broker:1883" },
    { "mqtt://ann:a/@broker/", false, 1883, "broker", "ann", "a/", "mqtt://broker:1883" },
    { "mqtt://a%6En:%40%3a%25%C3%A4@broker", false, 1883, "broker", "ann", "@:%\xc3\xa4", "mqtt://broker:1883" },
    { "mqtt://ann%40home:x@broker", false, 1883, "broker", "ann@home", "x", "mqtt://broker:1883" },
};

/* Else the server would say who it is, or its password, to another host, or not at all. */
static void test_good_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct broker_url url;
        char why[300] = "", printed[300];
        memset(&url, 0x5a, sizeof url);
        if (broker_url_read(good[i].text, &url, why, sizeof why) != STATUS_OK) {
            fail_msg("%s: %s", good[i].text, why);
        }
        broker_url_print(&url, printed, sizeof printed);
        assert_int_equal(url.tls, good[i].tls);
        assert_int_equal(url.port, good[i].port);
        assert_string_equal(url.host, good[i].host);
        assert_string_equal(url.user, good[i].user);
        assert_string_equal(url.password, good[i].password);
        assert_string_equal(printed, good[i].printed);
    }
}

static const struct {
    const char *text;
    const char *about;
} bad[] = {
    { "", "begins with mqtt://" },
    { "broker", "begins with mqtt://" },
    { "broker:1883", "begins with mqtt://" },
    { "tcp://broker", "begins with mqtt://" },
    { "MQTT://broker", "begins with mqtt://" },
    { "mqtt:/broker", "begins with mqtt://" },
    { "ann:hunter2@broker", "begins with mqtt://" },
    { "mqtt://", "host or port" },
    { "mqtt:///", "host or port" },
    { "mqtt://ann:hunter2@", "host or port" },
    { "mqtt://:1883", "host or port" },
    { "mqtt://broker:", "host or port" },
    { "mqtt://broker:0", "host or port" },
    { "mqtt://broker:65536", "host or port" },
    { "mqtt://broker:18x", "host or port" },
    { "mqtt://broker:-1", "host or port" },
    { "mqtt://broker:1883/topic", "host or port" },
    { "mqtt://broker/topic", "host or port" },
    { "mqtt://bro ker", "host or port" },
    { "mqtt://broker?a=b", "host or port" },
    { "mqtt://::1", "host or port" },
    { "mqtt://[::1", "host or port" },
    { "mqtt://[]", "host or port" },
    { "mqtt://[]:1883", "host or port" },
    { "mqtt://[::1]x", "host or port" },
    { "mqtt://[::1]x:1883", "host or port" },
    { "mqtt://ann:hunter2%@broker", "user or password" },
    { "mqtt://ann:hunter2%4@broker", "user or password" },
    { "mqtt://ann:hunter2%zz@broker", "user or password" },
    { "mqtt://ann:hunter2%00@broker", "user or password" },
    { "mqtt://ann:hunter2%0A@broker", "user or password" },
    { "mqtt://a\tn:hunter2@broker", "user or password" },
};

/* Nothing is written on failure, and the complaint, which goes to logs, holds the remedy and never the password. */
static void test_bad_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct broker_url url, before;
        char why[300] = "";
        memset(&url, 0x5a, sizeof url);
        memset(&before, 0x5a, sizeof before);
        enum status status = broker_url_read(bad[i].text, &url, why, sizeof why);
        if (status != STATUS_INVALID || strstr(why, bad[i].about) == NULL ||
            strstr(why, "write it as mqtt://") == NULL) {
            fail_msg("%s: %s \"%s\"", bad[i].text, status_name(status), why);
        }
        assert_null(strstr(why, "hunter2"));
        assert_memory_equal(&url, &before, sizeof url);
    }
}

/* A part that does not fit is refused, not cut: a cut password is a wrong one. */
static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *before, *behind;
    } forms[] = { { "mqtt://", "" }, { "mqtt://", "@h" }, { "mqtt://u:", "@h" }, { "mqtts://[", "]" } };
    for (size_t i = 0; i < COUNT_OF(forms); i++) {
        for (size_t n = 255; n <= 256; n++) {
            struct broker_url url;
            char part[300] = "", text[400], why[300], printed[300];
            memset(part, 'a', n);
            snprintf(text, sizeof text, "%s%s%s", forms[i].before, part, forms[i].behind);
            assert_int_equal(broker_url_read(text, &url, why, sizeof why), n == 255 ? STATUS_OK : STATUS_INVALID);
            if (n == 255) {
                const char *const read[] = { url.host, url.user, url.password, url.host };
                assert_string_equal(read[i], part);
                broker_url_print(&url, printed, sizeof printed); /* as the status page holds it */
                assert_non_null(strstr(printed, i == 3 ? ":8883" : ":1883"));
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_addresses),
        cmocka_unit_test(test_bad_addresses),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
