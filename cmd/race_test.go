//go:build race

package cmd_test

// raceDetector is true if the race detector is on: it needs additional memory and time.
const raceDetector = true
