// Package bench measures Belfry on the machine it runs on, beside what that
// machine can do at all: the raw rate of net/http POSTs over loopback, with
// client and server in one process, is the ceiling every rate is compared to.
//
// It promises that the program under test is the real one with its real
// database, reached over real sockets; that load generator and receiver share
// the processor with it and are part of every figure; that every delivery is
// counted once, losses and repeats are told, and signatures are checked on a
// sample; that ceiling and rates come from one run, medians of rounds after a
// warm-up; and that nothing is left behind: folders, databases and processes
// are its own and go with it.
//
// It refuses to speak to anything but loopback (and the PostgreSQL server it
// was given), to run without a bound, and to call a run with losses or wrong
// signatures a success.
//
// Test the sink, the generator and the statistics alone; Run needs a program.
package bench
