/* The configuration: which source wins, what is refused and how that is said, and what a reload may change. */
#include "tests/unit/server/config_fixture.h"

static void test_defaults(void **state)
{
    (void)state;
    struct reading got;
    assert_reads(&got, "");
    const struct config *c = &got.config;
    assert_int_equal(got.action, CONFIG_RUN);
    assert_string_equal(c->config, "");
    assert_string_equal(c->repo, "./firmware");
    assert_string_equal(c->state, "./state");
    assert_int_equal(c->listen.count, 1);
    assert_string_equal(c->listen.texts[0], "0.0.0.0:8080");
    assert_int_equal(c->drain_timeout_ms, 30000);
    assert_int_equal(c->head_timeout_ms, 10000);
    assert_int_equal(c->image_memory_bytes, 256u << 20);
    assert_int_equal(c->connections_max, 0);
    assert_int_equal(c->loop_guard_max, 3);
    assert_int_equal(c->offer, OFFER_NEWEST_TO_ALL); /* as update servers do that know no publishing */
    assert_int_equal(c->unknown_devices, CONFIG_UNKNOWN_ALLOWED);
    assert_int_equal(c->store, CONFIG_STORE_SQLITE);
    assert_int_equal(c->reboot_timeout_ms, 180000);
    assert_int_equal(c->site_in_flight, 0);
    assert_int_equal(c->max_failures_percent, 20);
    assert_int_equal(offerings_of(c->offerings, slice_of("door")), OFFER_NEWEST_TO_ALL);
    assert_int_equal(c->fs_gzip, 0);
    assert_int_equal(c->log_level, LOG_INFO);
    assert_int_equal(c->log_format, LOG_LOGFMT);
    assert_int_equal(c->trusted_proxies.count, 0); /* nobody is believed */
    assert_string_equal(c->public_url, "");
    assert_string_equal(c->admin_socket, "");
    assert_string_equal(c->admin_listen, "");
    assert_string_equal(c->mqtt, "");
    assert_string_equal(c->mqtt_password, "");
    assert_string_equal(c->mqtt_preset, "updraft");
    assert_int_equal(c->mqtt_version, 0);
    assert_int_equal(c->mqtt_keep_alive_ms, 30000);
    assert_int_equal(c->mqtt_in_flight, 64);
    assert_int_equal(c->mqtt_queue, 20000);
    assert_int_equal(c->command_retain, 0); /* a retained command would update whoever ever connects */
    assert_int_equal(c->command_expiry_ms, 3600000);
    assert_int_equal(assignments_count(c->assignments), 0);
    assert_prints(c, "listen = 0.0.0.0:8080 ; default\n");
    assert_prints(c, "; 0 devices have an assignment\n");
    config_close(&got.config);
}

/* --- who wins ---------------------------------------------------------------------------------------------------- */

/* One key of each kind, and what it is set to by each source. */
static const struct {
    const char *name, *variable;
    const char *values[4]; /* default, file, environment, flag: as printed */
} keys[] = {
    { "repo", "UPDRAFT_REPO", { "./firmware", "/file", "/environment", "/flag" } },
    { "listen", "UPDRAFT_LISTEN", { "0.0.0.0:8080", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3" } },
    { "trusted-proxy", "UPDRAFT_TRUSTED_PROXY", { NULL, "10.0.0.1", "10.0.0.0/8", "fd00::/8" } },
    { "drain-timeout", "UPDRAFT_DRAIN_TIMEOUT", { "30s", "1s", "2s", "3s" } },
    { "image-memory", "UPDRAFT_IMAGE_MEMORY", { "256M", "33M", "34M", "35M" } },
    { "loop-guard", "UPDRAFT_LOOP_GUARD", { "3", "4", "5", "6" } },
    { "offer", "UPDRAFT_OFFER", { "newest", "published", "newest", "published" } },
    { "unknown-devices", "UPDRAFT_UNKNOWN_DEVICES", { "allow", "hold", "allow", "hold" } },
    { "store", "UPDRAFT_STORE", { "sqlite", "none", "sqlite", "none" } },
    { "reboot-timeout", "UPDRAFT_REBOOT_TIMEOUT", { "3m", "1s", "2s", "3s" } },
    { "site-in-flight", "UPDRAFT_SITE_IN_FLIGHT", { "0", "1", "2", "3" } },
    { "max-failures", "UPDRAFT_MAX_FAILURES", { "20%", "0%", "1%", "100%" } },
    { "fs-gzip", "UPDRAFT_FS_GZIP", { "no", "yes", "no", "yes" } },
    { "log-level", "UPDRAFT_LOG_LEVEL", { "info", "error", "warn", "debug" } },
    { "mqtt", "UPDRAFT_MQTT", { NULL, "mqtt://file:1883", "mqtts://environment:8883", "mqtt://flag:7" } },
    { "mqtt-version", "UPDRAFT_MQTT_VERSION", { "auto", "3.1.1", "5", "auto" } },
    { "command-expiry", "UPDRAFT_COMMAND_EXPIRY", { "1h", "0s", "1m", "2m" } },
    { "status-topic", "UPDRAFT_STATUS_TOPIC", { NULL, "file/{mac}", "environment/{mac}", "flag/{mac}" } },
    { "log-format", "UPDRAFT_LOG_FORMAT", { "logfmt", "json", "logfmt", "json" } },
};

/* Where a value came from, as it is printed. */
static void print_source(char *to, size_t size, size_t key, size_t source)
{
    static const char *const sources[] = { "default", "u.ini:2", "environment ", "flag" };
    snprintf(to, size, "%s%s", sources[source], source == 2 ? keys[key].variable : "");
}

/* Reads with the sources whose bits are set; returns the strongest. */
static size_t read_sources(struct reading *reading, size_t key, unsigned bits)
{
    char args[200] = "", line[100];
    size_t strongest = 0;
    if (bits & 1) {
        snprintf(line, sizeof line, "; tuned\n%s = %s\n", keys[key].name, keys[key].values[1]);
        write_file("u.ini", line);
        strcpy(args, "--config u.ini ");
        strongest = 1;
    }
    unsetenv(keys[key].variable);
    if (bits & 2) {
        setenv(keys[key].variable, keys[key].values[2], 1);
        strongest = 2;
    }
    if (bits & 4) {
        snprintf(args + strlen(args), sizeof args - strlen(args), "--%s %s", keys[key].name, keys[key].values[3]);
        strongest = 3;
    }
    assert_reads(reading, args);
    return strongest;
}

/* Else what an operator sets for one run would be overruled by a forgotten file. */
static void test_precedence(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        for (unsigned bits = 0; bits < 8; bits++) {
            struct reading got;
            char expected[200], source[100];
            size_t strongest = read_sources(&got, i, bits);
            if (keys[i].values[strongest] != NULL) {
                print_source(source, sizeof source, i, strongest);
                snprintf(expected, sizeof expected, "%s = %s ; %s\n", keys[i].name, keys[i].values[strongest], source);
                assert_prints(&got.config, expected);
            } else { /* what is not set has no line */
                snprintf(expected, sizeof expected, "\n%s = ", keys[i].name);
                assert_prints_not(&got.config, expected);
            }
            config_close(&got.config);
        }
        unsetenv(keys[i].variable);
    }
}

static void assert_offers(const char *args, enum offering door, enum offering gate)
{
    struct reading got;
    assert_reads(&got, args);
    assert_int_equal(offerings_of(got.config.offerings, slice_of("door")), door);
    assert_int_equal(offerings_of(got.config.offerings, slice_of("gate")), gate);
    config_close(&got.config);
}

/* Else a type without a line goes by the default, or by the file, though a flag says otherwise. */
static void test_types_without_a_line_go_by_the_strongest_source(void **state)
{
    (void)state;
    write_file("u.ini", "[offer]\ndoor = published\n");
    assert_offers("--config u.ini", OFFER_PUBLISHED, OFFER_NEWEST_TO_ALL);
    assert_offers("--config u.ini --offer published", OFFER_PUBLISHED, OFFER_PUBLISHED);
    write_file("u.ini", "offer = published\n[offer]\ndoor = newest ; at once\n");
    assert_offers("--config u.ini", OFFER_NEWEST_TO_ALL, OFFER_PUBLISHED);
    setenv("UPDRAFT_OFFER", "newest", 1);
    assert_offers("--config u.ini", OFFER_NEWEST_TO_ALL, OFFER_NEWEST_TO_ALL);
    assert_offers("--config u.ini --offer published", OFFER_NEWEST_TO_ALL, OFFER_PUBLISHED);
}

/* Else a listener of the defaults, or of the file, would stay open beside those that the operator asked for. */
static void test_lists_replace_and_gather(void **state)
{
    (void)state;
    struct reading got;
    write_file("u.ini", "listen = 127.0.0.1:1\nlisten = [::1]:2\n");
    assert_reads(&got, "--config u.ini");
    assert_int_equal(got.config.listen.count, 2);
    assert_string_equal(got.config.listen.texts[0], "127.0.0.1:1");
    assert_string_equal(got.config.listen.texts[1], "[::1]:2");
    assert_prints(&got.config, "listen = 127.0.0.1:1 ; u.ini:1\nlisten = [::1]:2 ; u.ini:2\n"); /* each its own */
    config_close(&got.config);
    setenv("UPDRAFT_LISTEN", "127.0.0.1:3, 127.0.0.1:4,127.0.0.1:5", 1);
    assert_reads(&got, "--config u.ini");
    assert_int_equal(got.config.listen.count, 3);
    assert_string_equal(got.config.listen.texts[1], "127.0.0.1:4");
    config_close(&got.config);
    setenv("UPDRAFT_TRUSTED_PROXY", "10.0.0.1, fd00::/8", 1);
    assert_reads(&got, "");
    assert_int_equal(got.config.trusted_proxies.count, 2);
    assert_string_equal(got.config.trusted_proxies.texts[1], "fd00::/8");
    config_close(&got.config);
    assert_reads(&got, "--listen 127.0.0.1:6 --config u.ini --listen 127.0.0.1:7");
    assert_int_equal(got.config.listen.count, 2);
    assert_string_equal(got.config.listen.texts[0], "127.0.0.1:6");
    assert_string_equal(got.config.listen.texts[1], "127.0.0.1:7");
    config_close(&got.config);
}

static void test_variables(void **state)
{
    (void)state;
    struct reading got;
    setenv("UPDRAFT_REPO", "/srv/a,b", 1); /* only lists are taken apart */
    setenv("UPDRAFT_LOG_LEVEL", "", 1);    /* empty is not set */
    write_file("u.ini", "loop-guard = 7\n");
    setenv("UPDRAFT_CONFIG", "u.ini", 1);
    assert_reads(&got, "");
    assert_string_equal(got.config.repo, "/srv/a,b");
    assert_int_equal(got.config.log_level, LOG_INFO);
    assert_int_equal(got.config.loop_guard_max, 7);
    assert_string_equal(got.config.config, "u.ini"); /* SIGHUP reads it again */
    config_close(&got.config);
    write_file("v.ini", "loop-guard = 8\n");
    assert_reads(&got, "--config v.ini");
    assert_int_equal(got.config.loop_guard_max, 8);
    assert_string_equal(got.config.config, "v.ini");
    config_close(&got.config);
}

/* --- what is refused --------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *message;
} files[] = {
    { "repo = a\nport = 8080\n",
      "--config u.ini: line 2: key \"port\" is not known: see updraftd --help for those that are" },
    { "Repo = a\n", "--config u.ini: line 1: key \"Repo\" is not known: see updraftd --help for those that are" },
    { "config = v.ini\n",
      "--config u.ini: line 1: key \"config\" is not known: see updraftd --help for those that are" },
    { "help = yes\n", "--config u.ini: line 1: key \"help\" is not known: see updraftd --help for those that are" },
    { "[server]\nrepo = a\n",
      "--config u.ini: line 2: section [server] is not known: keys stand before any section, devices "
      "in [assign], types in [offer]" },
    { "[offer]\ndoor = all\n", "--config u.ini: line 2: door: write newest or published" },
    { "[offer]\ndoor = newest\ndoor = published\n",
      "--config u.ini: line 3: door: this type stands in [offer] already: delete one of the two lines" },
    { "[offer]\nloop-guard = 4\n", "--config u.ini: line 2: loop-guard: write newest or published" },
    { "\nloop-guard = no\n", "--config u.ini: line 2: loop-guard: \"no\" is not usable: give a number from 1 to 1000" },
    { "trusted-proxy = 10.0.0.1\ntrusted-proxy = nginx\n",
      "--config u.ini: line 2: trusted-proxy: \"nginx\" is not usable: give an address or network, such as "
      "10.0.0.1, 10.0.0.0/8 or fd00::/8, with zeros behind the prefix, and not all of IPv4 or IPv6; at most 64 of "
      "them" },
    { "repo =\n", "--config u.ini: line 1: repo: \"\" is not usable: give a text of 1 to 1023 bytes, in UTF-8 and "
                  "without control characters" },
    { "repo\n", "--config u.ini: line 1: neither [section] nor key = value" },
    { "repo = a\x1b[2J\n",
      "--config u.ini: line 1: not plain text: take control characters out, and save the file as UTF-8" },
    { "[assign]\n5C:CF:7F:B1:E0 = a\n",
      "--config u.ini: line 2: 5C:CF:7F:B1:E0: the key is no MAC address such as 5C:CF:7F:B1:E0:42" },
    { "[assign]\nloop-guard = 4\n",
      "--config u.ini: line 2: loop-guard: the key is no MAC address such as 5C:CF:7F:B1:E0:42" },
    { "[assign]\n5C:CF:7F:B1:E0:42 = a\n5CCF7FB1E042 = b\n",
      "--config u.ini: line 3: 5CCF7FB1E042: this MAC is assigned already: delete one of the two lines" },
};

static void test_bad_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        struct reading got;
        write_file("u.ini", files[i].text);
        read_args(&got, "--config u.ini");
        if (got.status == STATUS_OK || strcmp(got.message, files[i].message) != 0) {
            fail_msg("file %zu: %s \"%s\"", i, status_name(got.status), got.message);
        }
        config_close(&got.config);
    }
}

static void test_bad_variables(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *message;
    } variables[] = {
        { "UPDRAFT_LOOP_GUARD", "0",
          "UPDRAFT_LOOP_GUARD: loop-guard: \"0\" is not usable: give a number from 1 to 1000" },
        { "UPDRAFT_LISTEN", "127.0.0.1:1,",
          "UPDRAFT_LISTEN: listen: \"\" is not usable: give an address and a port, such as 0.0.0.0:8080 or "
          "[::]:8080; at most 16 of them" },
        { "UPDRAFT_CONFIG", "none.ini",
          "--config none.ini: No such file or directory: name a file that the server's user can read" },
    };
    for (size_t i = 0; i < COUNT_OF(variables); i++) {
        struct reading got;
        setenv(variables[i].name, variables[i].value, 1);
        read_args(&got, "");
        assert_true(got.status != STATUS_OK);
        assert_string_equal(got.message, variables[i].message);
        unsetenv(variables[i].name);
        config_close(&got.config);
    }
}

/* --- secrets ----------------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *secret; /* NULL: refused */
} secrets[] = {
    { "hunter2", "hunter2" },
    { "hunter2\n", "hunter2" },
    { "hunter2\r\n", "hunter2" },
    { "hunter2\nsecond line\n", "hunter2" },
    { "a,b;c#d e\n", "a,b;c#d e" }, /* nothing in it means anything */
    { "", NULL },
    { "\n", NULL },
    { "\nhunter2\n", NULL },
};

/* As container engines hand them over. */
static void test_secrets_from_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        struct reading got;
        write_file("secret", secrets[i].text);
        setenv("UPDRAFT_MQTT_PASSWORD_FILE", "secret", 1);
        read_args(&got, "--mqtt mqtt://broker --mqtt-user ann");
        assert_int_equal(got.status, secrets[i].secret != NULL ? STATUS_OK : STATUS_INVALID);
        if (secrets[i].secret != NULL) {
            assert_string_equal(got.config.mqtt_password, secrets[i].secret);
            assert_prints(&got.config,
                          "; mqtt-password is set and not shown ; environment UPDRAFT_MQTT_PASSWORD_FILE\n");
        } else {
            assert_string_equal(got.message, "UPDRAFT_MQTT_PASSWORD_FILE: secret: nothing in its first line: write the "
                                             "secret there");
        }
        config_close(&got.config);
    }
}

static void test_ranks_of_secret_files(void **state)
{
    (void)state;
    struct reading got;
    write_file("secret", "mqtt://ann:hunter2@environment\n");
    setenv("UPDRAFT_MQTT_FILE", "secret", 1);
    write_file("u.ini", "mqtt = mqtt://file\n");
    assert_reads(&got, "--config u.ini");
    assert_string_equal(got.config.mqtt, "mqtt://ann:hunter2@environment");
    config_close(&got.config);
    assert_reads(&got, "--mqtt mqtt://flag");
    assert_string_equal(got.config.mqtt, "mqtt://flag");
    config_close(&got.config);
    setenv("UPDRAFT_MQTT", "mqtt://other", 1); /* which of the two was meant? */
    read_args(&got, "");
    assert_string_equal(got.message, "UPDRAFT_MQTT and UPDRAFT_MQTT_FILE are both set: keep one of them");
    config_close(&got.config);
    setenv("UPDRAFT_MQTT", "", 1); /* empty is not set */
    assert_reads(&got, "");
    config_close(&got.config);
    setenv("UPDRAFT_MQTT_FILE", "none", 1);
    read_args(&got, "");
    assert_string_equal(got.message, "UPDRAFT_MQTT_FILE: none: No such file or directory: name a file that the "
                                     "server's user can read");
    config_close(&got.config);
    setenv("UPDRAFT_MQTT_FILE", "", 1);
    setenv("UPDRAFT_REPO_FILE", "none", 1); /* no secret: nobody's variable */
    assert_reads(&got, "");
    config_close(&got.config);
}

/* Else a long secret would be cut to a wrong one, and the broker's refusal be a riddle. */
static void test_longest_secret(void **state)
{
    (void)state;
    for (size_t n = CONFIG_TEXT_MAX - 1; n <= CONFIG_TEXT_MAX + 1; n++) {
        struct reading got;
        char secret[CONFIG_TEXT_MAX + 10];
        memset(secret, 's', n);
        strcpy(secret + n, "\n");
        write_file("secret", secret);
        setenv("UPDRAFT_MQTT_PASSWORD_FILE", "secret", 1);
        read_args(&got, "--mqtt mqtt://broker --mqtt-user ann");
        assert_int_equal(got.status, n < CONFIG_TEXT_MAX ? STATUS_OK : STATUS_INVALID);
        if (got.status == STATUS_OK) {
            assert_int_equal(strlen(got.config.mqtt_password), n);
        } else {
            assert_null(strstr(got.message, "sss"));
            assert_non_null(strstr(got.message, "1 to 1023 bytes"));
        }
        config_close(&got.config);
    }
}

/* --- actions ----------------------------------------------------------------------------------------------------- */

/* Else --help would be refused by the very mistake that it would help with. */
static void test_actions(void **state)
{
    (void)state;
    static const struct {
        const char *args;
        enum config_action action;
    } actions[] = {
        { "--help", CONFIG_HELP },
        { "--version", CONFIG_VERSION },
        { "--config none.ini --help", CONFIG_HELP },
        { "--version --loop-guard 0", CONFIG_VERSION },
        { "--check-config", CONFIG_CHECK },
        { "--loop-guard 4 --check-config", CONFIG_CHECK },
    };
    for (size_t i = 0; i < COUNT_OF(actions); i++) {
        struct reading got;
        assert_reads(&got, actions[i].args);
        assert_int_equal(got.action, actions[i].action);
        config_close(&got.config);
    }
    struct reading got;
    read_args(&got, "--check-config --loop-guard 0"); /* the whole point of it */
    assert_int_equal(got.status, STATUS_INVALID);
    config_close(&got.config);
}

/* --- a reload ---------------------------------------------------------------------------------------------------- */

static const struct {
    const char *before, *after;
    const char *file_before, *file_after;
    const char *names;
} differences[] = {
    { "", "", "", "", "" },
    { "--loop-guard 4 --log-level debug", "", "", "", "" }, /* takes effect at once */
    { "--trusted-proxy 10.0.0.1", "--trusted-proxy 10.0.0.2", "", "", "" },
    { "--store none", "--offer published --unknown-devices hold --reboot-timeout 9s", "", "", "store" },
    { "--repo a", "--repo b", "", "", "repo" },
    { "--repo a --state b", "--listen 127.0.0.1:1", "", "", "repo, state, listen" },
    { "--listen 127.0.0.1:1", "--listen 127.0.0.1:1 --listen 127.0.0.1:2", "", "", "listen" },
    { "--public-url http://a", "--public-url http://b", "", "", "" },
    { "--mqtt mqtt://a", "--mqtt mqtt://b --mqtt-version 5", "", "", "mqtt, mqtt-version" },
    { "--mqtt mqtt://a", "", "", "", "mqtt" },
    { "", "--mqtt mqtt://a@b --mqtt-password hunter2 --command-retain yes", "", "",
      "mqtt, mqtt-password, command-retain" },
    { "--admin-listen 127.0.0.1:1", "--admin-socket a", "", "", "admin-socket, admin-listen" },
    { "--listen 127.0.0.1:1 --listen 127.0.0.1:2", "--listen 127.0.0.1:2 --listen 127.0.0.1:1", "", "", "listen" },
    /* The file's listeners are not in effect: else a reload would warn of a change that is none. */
    { "--listen 127.0.0.1:1", "--listen 127.0.0.1:1", "listen = 127.0.0.1:20000\n", "listen = 127.0.0.1:23456\n", "" },
    { "--listen 127.0.0.1:1", "--listen 127.0.0.1:1", "listen = 127.0.0.1:2\nlisten = 127.0.0.1:3\n", "", "" },
};

static void test_differences_that_need_a_restart(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(differences); i++) {
        struct reading before, after;
        char names[200], args[200];
        write_file("u.ini", differences[i].file_before);
        snprintf(args, sizeof args, "--config u.ini %s", differences[i].before);
        assert_reads(&before, args);
        write_file("u.ini", differences[i].file_after);
        snprintf(args, sizeof args, "--config u.ini %s", differences[i].after);
        assert_reads(&after, args);
        config_keep_fixed(&after.config, &before.config, names, sizeof names);
        if (strcmp(names, differences[i].names) != 0) {
            fail_msg("case %zu: \"%s\"", i, names);
        }
        config_keep_fixed(&after.config, &before.config, names, sizeof names);
        assert_string_equal(names, ""); /* what was kept is as it was */
        config_close(&before.config);
        config_close(&after.config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_defaults),
        IN_FOLDER(test_precedence),
        IN_FOLDER(test_types_without_a_line_go_by_the_strongest_source),
        IN_FOLDER(test_lists_replace_and_gather),
        IN_FOLDER(test_variables),
        IN_FOLDER(test_bad_files),
        IN_FOLDER(test_bad_variables),
        IN_FOLDER(test_secrets_from_files),
        IN_FOLDER(test_ranks_of_secret_files),
        IN_FOLDER(test_longest_secret),
        IN_FOLDER(test_actions),
        IN_FOLDER(test_differences_that_need_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
