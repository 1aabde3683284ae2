#include "tests/unit/server/config_fixture.h"

struct names {
    char text[400];
};

static void on_file(void *owner, const char *path)
{
    struct names *names = owner;
    size_t used = strlen(names->text);
    snprintf(names->text + used, sizeof names->text - used, "%s ", path);
}

/* By the table's order; the sandbox lets the server read these alone. */
static void test_every_file_is_told(void **state)
{
    (void)state;
    struct reading got;
    struct names names = { "" };
    write_file("u.ini", "mqtt-ca = /a/ca.pem\n");
    write_file("secret", "word\n");
    setenv("UPDRAFT_MQTT_PASSWORD_FILE", "secret", 1);
    assert_reads(&got, "--config u.ini --tls-listen 127.0.0.1:0 --tls-cert a.pem --tls-key a.key --tls-cert b.pem "
                       "--tls-key b.key --repo r --mqtt mqtts://host --mqtt-user ann --admin-socket s");
    config_each_file(&got.config, on_file, &names);
    assert_string_equal(names.text, "u.ini a.pem b.pem a.key b.key secret /a/ca.pem ");
    config_close(&got.config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_file_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
