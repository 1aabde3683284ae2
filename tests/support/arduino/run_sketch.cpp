// Starts the sketch, and hands it what comes on standard input: a line a message, "TOPIC PAYLOAD".
#include <Arduino.h>
#include <iostream>

#include "examples/mqtt_update/mqtt_update.ino"

int main()
{
    std::string line;
    setup();
    loop();
    while (std::getline(std::cin, line)) {
        size_t blank = line.find(' ');
        printf("message\n");
        mqtt.receive(line.substr(0, blank), line.substr(blank + 1));
        loop();
        loop();
    }
    return 0;
}
