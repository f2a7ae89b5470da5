//go:build race

package sandbox

// raceDetector: it takes memory and time of its own.
const raceDetector = true
