// ultraspeed admin: accounts, applications, keys and the ledger of a service, on the machine that
// has its database; also while a server is running.
#pragma once

namespace CLI {
class App;
}

namespace ultraspeed::apps {

void add_admin_command(CLI::App& app, int* exit_code);

}  // namespace ultraspeed::apps
