/* Values: what each kind of them takes, and how it is said what is wrong with one. */
#include "tests/unit/server/config_fixture.h"

static const struct {
    const char *args;
    const char *message;
} flags[] = {
    { "--listen 8080", "--listen: \"8080\" is not usable: give an address and a port, such as 0.0.0.0:8080 or "
                       "[::]:8080; at most 16 of them" },
    { "--listen :8080", "--listen: \":8080\" is not usable: give an address and a port, such as 0.0.0.0:8080 or "
                        "[::]:8080; at most 16 of them" },
    { "--listen 127.0.0.1:65536", "--listen: \"127.0.0.1:65536\" is not usable: give an address and a port, such as "
                                  "0.0.0.0:8080 or [::]:8080; at most 16 of them" },
    { "--trusted-proxy 10.0.0.1/8",
      "--trusted-proxy: \"10.0.0.1/8\" is not usable: give an address or network, such as 10.0.0.1, 10.0.0.0/8 "
      "or fd00::/8, with zeros behind the prefix, and not all of IPv4 or IPv6; at most 64 of them" },
    { "--trusted-proxy 0.0.0.0/0", "--trusted-proxy: \"0.0.0.0/0\" is not usable: give an address or network, "
                                   "such as 10.0.0.1, 10.0.0.0/8 or fd00::/8, with zeros behind the prefix, and not "
                                   "all of IPv4 or IPv6; at most 64 of them" },
    { "--block-mac 5c:cf:7",
      "--block-mac: \"5c:cf:7\" is not usable: give a MAC or how MACs begin, in whole bytes, such as "
      "5c:cf:7f:01:02:03 or 5c:cf:7f; at most 64 of them" },
    { "--drain-timeout 30", "--drain-timeout: \"30\" is not usable: give a time from 0s to 24h, such as 500ms, 10s "
                            "or 5m" },
    { "--drain-timeout 25h", "--drain-timeout: \"25h\" is not usable: give a time from 0s to 24h, such as 500ms, 10s "
                             "or 5m" },
    { "--head-timeout 99ms", "--head-timeout: \"99ms\" is not usable: give a time from 100ms to 24h, such as 500ms, "
                             "10s or 5m" },
    { "--rescan-interval 0s", "--rescan-interval: \"0s\" is not usable: give a time from 1s to 24h, such as 500ms, "
                              "10s or 5m" },
    { "--image-memory 1M", "--image-memory: \"1M\" is not usable: give a size from 32M to 1024G, such as 64M" },
    { "--image-memory 64MB", "--image-memory: \"64MB\" is not usable: give a size from 32M to 1024G, such as 64M" },
    { "--loop-guard 0", "--loop-guard: \"0\" is not usable: give a number from 1 to 1000" },
    { "--loop-guard -1", "--loop-guard: \"-1\" is not usable: give a number from 1 to 1000" },
    { "--connections-max many", "--connections-max: \"many\" is not usable: give a number from 0 to 1000000" },
    { "--offer all", "--offer: \"all\" is not usable: give newest|published" },
    { "--unknown-devices deny", "--unknown-devices: \"deny\" is not usable: give allow|hold|refuse" },
    { "--store postgres", "--store: \"postgres\" is not usable: give sqlite|none" },
    { "--reboot-timeout 0s", "--reboot-timeout: \"0s\" is not usable: give a time from 1s to 168h, such as 500ms, 10s "
                             "or 5m" },
    { "--site-in-flight -1", "--site-in-flight: \"-1\" is not usable: give a number from 0 to 200000" },
    { "--max-failures 101%", "--max-failures: \"101%\" is not usable: give a share from 0% to 100%, such as 20%" },
    { "--max-failures %", "--max-failures: \"%\" is not usable: give a share from 0% to 100%, such as 20%" },
    { "--max-failures 20%%", "--max-failures: \"20%%\" is not usable: give a share from 0% to 100%, such as 20%" },
    { "--fs-gzip true", "--fs-gzip: \"true\" is not usable: give yes or no" },
    { "--log-level INFO", "--log-level: \"INFO\" is not usable: give error, warn, info or debug" },
    { "--log-format xml", "--log-format: \"xml\" is not usable: give logfmt or json" },
    { "--repo=",
      "--repo: \"\" is not usable: give a text of 1 to 1023 bytes, in UTF-8 and without control characters" },
    { "--mqtt-version 4", "--mqtt-version: \"4\" is not usable: give auto|3.1.1|5" },
    { "--mqtt-version 3.1.1|5", "--mqtt-version: \"3.1.1|5\" is not usable: give auto|3.1.1|5" },
    { "--mqtt-version=", "--mqtt-version: \"\" is not usable: give auto|3.1.1|5" },
    { "--mqtt-version aut", "--mqtt-version: \"aut\" is not usable: give auto|3.1.1|5" },
    { "--mqtt-queue 200001", "--mqtt-queue: \"200001\" is not usable: give a number from 1 to 200000" },
    { "--mqtt-in-flight 0", "--mqtt-in-flight: \"0\" is not usable: give a number from 1 to 1000" },
    { "--command-retain true", "--command-retain: \"true\" is not usable: give yes or no" },
    { "--mqtt=", "--mqtt: \"(hidden)\" is not usable: give a text of 1 to 1023 bytes" },
    { "--mqtt-password=", "--mqtt-password: \"(hidden)\" is not usable: give a text of 1 to 1023 bytes" },
    { "--log-level \x1b[2J", "--log-level: \"\\x1b[2J\" is not usable: give error, warn, info or debug" },
    { "--repo /srv/\xe4pfel", "--repo: \"/srv/\\xe4pfel\" is not usable: give a text of 1 to 1023 bytes, in UTF-8 and "
                              "without control characters" },
    { "--mqtt-user \x1b[2J", "--mqtt-user: \"\\x1b[2J\" is not usable: give a text of 1 to 1023 bytes, in UTF-8 and "
                             "without control characters" },
    { "--listen \xc2\x9b:80", "--listen: \"\\xc2\\x9b:80\" is not usable: give an address and a port, such as "
                              "0.0.0.0:8080 or [::]:8080; at most 16 of them" },
    { "--bogus", "--bogus: not known, or its value is missing: see updraftd --help" },
    { "--tls-record-size 511", "--tls-record-size: \"511\" is not usable: give a size from 512 to 16K, such as 64M" },
    { "--tls-handshakes 0", "--tls-handshakes: \"0\" is not usable: give a number from 1 to 1000000" },
    { "--tls-client maybe", "--tls-client: \"maybe\" is not usable: give required|optional" },
    { "--tls-listeners 0.0.0.0:1", "--tls-listeners: not known, or its value is missing: see updraftd --help" },
    { "--check-config=yes", "--check-config=yes: not known, or its value is missing: see updraftd --help" },
    { "--loop-guard 4 --repo", "--repo: not known, or its value is missing: see updraftd --help" },
    { "-x", "-x: not known, or its value is missing: see updraftd --help" },
    { "--fs-gzip yes -xyz", "-xyz: not known, or its value is missing: see updraftd --help" },
    { "/srv/firmware", "/srv/firmware: only flags are taken: see updraftd --help" },
    { "--fs-gzip yes now --loop-guard 4", "now: only flags are taken: see updraftd --help" },
    { "--config none.ini",
      "--config none.ini: No such file or directory: name a file that the server's user can read" },
};

/* Else an operator would be told that something is wrong, and not what, or be told of the wrong flag. */
static void test_bad_flags(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(flags); i++) {
        struct reading got;
        read_args(&got, flags[i].args);
        if (got.status == STATUS_OK || strcmp(got.message, flags[i].message) != 0) {
            fail_msg("%s: %s \"%s\"", flags[i].args, status_name(got.status), got.message);
        }
        config_close(&got.config);
    }
}

static void test_too_many_listeners(void **state)
{
    (void)state;
    struct reading got;
    char args[1000] = "";
    for (int i = 0; i < CONFIG_LISTEN_MAX; i++) {
        snprintf(args + strlen(args), sizeof args - strlen(args), "--listen 127.0.0.1:%d ", i);
    }
    assert_reads(&got, args);
    assert_int_equal(got.config.listen.count, CONFIG_LISTEN_MAX);
    config_close(&got.config);
    strcat(args, "--listen 127.0.0.1:99");
    read_args(&got, args);
    assert_int_equal(got.status, STATUS_INVALID);
    assert_non_null(strstr(got.message, "at most 16 of them"));
    config_close(&got.config);
}

/* A path of 1023 bytes is a path; one more would be cut to another one. */
static void test_longest_text(void **state)
{
    (void)state;
    for (size_t n = CONFIG_TEXT_MAX - 1; n <= CONFIG_TEXT_MAX; n++) {
        struct reading got;
        char args[CONFIG_TEXT_MAX + 20] = "--repo ";
        memset(args + strlen(args), 'a', n);
        read_args(&got, args);
        assert_int_equal(got.status, n < CONFIG_TEXT_MAX ? STATUS_OK : STATUS_INVALID);
        if (n < CONFIG_TEXT_MAX) {
            assert_int_equal(strlen(got.config.repo), n);
        } else {
            assert_true(strlen(got.message) < 400);
        }
        config_close(&got.config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_bad_flags),
        IN_FOLDER(test_too_many_listeners),
        IN_FOLDER(test_longest_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
