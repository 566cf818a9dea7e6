// command_line.hpp - how the programs end: their name in front of every error.
#pragma once

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <string>

namespace examples {

/// Parses the arguments and calls run(): returns what it returns, or 2 with a line on standard error, the
/// program's name first, where arguments or input can not be used. --help ends with 0.
template <class F>
int run_program(const std::string& name, CLI::App& app, int argc, char** argv, const F& run) {
  app.name(name);
  app.failure_message([&name](const CLI::App*, const CLI::Error& e) {
    return name + ": " + e.what() + "\nRun " + name + " --help for more information.\n";
  });
  try {
    app.parse(argc, argv);
    return run();
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: not enough memory\n", name.c_str());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", name.c_str(), e.what());
  }
  return 2;
}

}  // namespace examples
