//go:build race

package cmd_test

// raceDetector: it takes memory and time of its own.
const raceDetector = true
