/** Docker's daemon with its legacy overlay driver, which it had until version 24, on a root that this package has written. */
import { describeDockerd } from '../support/peers/docker-suite.ts';

describeDockerd('overlay');
